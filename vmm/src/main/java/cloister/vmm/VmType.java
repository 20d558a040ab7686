package cloister.vmm;

import java.util.Locale;

/// What kind of guest a machine runs.
public enum VmType {
    /// A trust domain behind the TDX module.
    TDX,
    /// An ordinary VM over VMX and EPT.
    DEFAULT;

    /// Its name in options.
    @Override public String toString() {
        return name().toLowerCase(Locale.ROOT);
    }
}
