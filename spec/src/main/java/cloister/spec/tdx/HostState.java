package cloister.spec.tdx;

/// What registers of the host hold after TDH.VP.ENTER whose value the TDX module does not keep. [TDX-ABI "TDH.VP.ENTER"]
public final class HostState {
    /// IA32_FMASK: as INIT leaves it, which is also a VCPU's initial value: IF and ID.
    public static final long FMASK = 0x20200;

    private HostState() {
    }
}
