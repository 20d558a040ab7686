package cloister.vmm.observe;

import java.util.Locale;

/// What can be traced.
public enum TraceKind {
    /// SEAMCALLs with operands and status.
    SEAMCALL,
    /// TDCALLs with operands and status, TDG.VP.VMCALL among them.
    TDCALL,
    /// TDG.VP.VMCALLs by their sub-function.
    VMCALL,
    /// VM exits, those of trust domains to the TDX module as well.
    EXITS,
    /// The SEAMCALLs that concern Secure EPT and private pages: TDH.MEM.*.
    SEPT,
    /// Lock attempts of the TDX module, SEAMCALLs that found a lock taken, locks of the host kernel.
    LOCK,
    /// Which host thread runs.
    SCHED,
    /// Lines of the guest's first serial port.
    CONSOLE,
    /// KVM_RUN returned to the VMM.
    USER;

    /// The name in options and traces.
    public String label() {
        return name().toLowerCase(Locale.ROOT);
    }
}
