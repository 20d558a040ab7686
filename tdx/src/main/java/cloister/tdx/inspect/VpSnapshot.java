package cloister.tdx.inspect;

import java.util.List;

/// A virtual processor of a trust domain. While it runs its registers are the logical processor's: here they are as of its last
/// TD exit, or VM exit to the module.
///
/// @param tdvprPage physical address of its TDVPR page
/// @param lock      that page's lock
/// @param state     VCPU_UNINITIALIZED, VCPU_READY, VCPU_ACTIVE, VCPU_DISABLED
/// @param tdvps     the fields of TDVPS
/// @param tdVmcs    the fields of its TD VMCS; empty before TDH.VP.INIT
/// @param l2Vmcs    the fields of the VMCS of each L2 VM, as the processor uses them; none before TDH.VP.INIT
public record VpSnapshot(long tdvprPage, Lock lock, String state, Fields tdvps, Fields tdVmcs, List<Fields> l2Vmcs) {
}
