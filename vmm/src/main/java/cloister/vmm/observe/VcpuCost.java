package cloister.vmm.observe;

/// What one host thread did.
///
/// @param name         its name: `vcpu0`; `build` for what happened before there were threads
/// @param instructions instructions that its guest retired
/// @param exits        VM exits that KVM handled
/// @param seamcalls    SEAMCALLs
/// @param guestVirtualNanos virtual time in the guest
/// @param guestHostNanos    wall time in the guest; 0 when it was not measured
/// @param hostNanos         wall time outside the guest; 0 when it was not measured
public record VcpuCost(String name, long instructions, long exits, long seamcalls, long guestVirtualNanos, long guestHostNanos,
        long hostNanos) {
}
