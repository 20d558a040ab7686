package cloister.cpu.firmware;

/// What the platform's firmware and the TDX module's adapter show to use a logical processor as no operating system can: entering a
/// VMCS that the host never made current, the SEAM transfer VMCS, MSRs that are locked at boot. The package is exported to `platform`
/// alone; the hypervisor cannot name it. [ADR 1]
public final class FirmwareAccess {
    /// The only one.
    public static final FirmwareAccess SEAM = new FirmwareAccess();

    private FirmwareAccess() {
    }
}
