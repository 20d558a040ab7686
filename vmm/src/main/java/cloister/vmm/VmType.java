package cloister.vmm;

/// What kind of guest a machine runs.
public enum VmType {
    /// A trust domain behind the TDX module.
    TDX,
    /// An ordinary VM over VMX and EPT.
    DEFAULT
}
