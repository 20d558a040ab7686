package cloister.spec.tdx;

/// What registers of the host hold after TDH.VP.ENTER whose value the TDX module does not keep. [TDX-ABI "TDH.VP.ENTER"]
public final class HostState {
    /// IA32_FMASK: as INIT leaves it, which is also a VCPU's initial value: IF and ID.
    public static final long FMASK = 0x20200;
    /// DR6: as INIT leaves it.
    public static final long DR6 = 0xffff_0ff0L;
    /// DR7: as INIT leaves it, no breakpoint on.
    public static final long DR7 = 0x400;
    /// The bits of IA32_DEBUGCTL that are kept: BTF, FREEZE_PERFMON_ON_PMI and FREEZE_WHILE_SMM.
    public static final long DEBUGCTL_KEPT = (1 << 1) | (1 << 12) | (1 << 14);

    private HostState() {
    }
}
