package cloister.tdx.inspect;

/// A virtual processor of a trust domain. While it runs its registers are the logical processor's: here they are as of its last
/// TD exit, or VM exit to the module.
///
/// @param tdvprPage physical address of its TDVPR page
/// @param lock      state of that page's lock, as in [Lock]
/// @param state     VCPU_UNINITIALIZED, VCPU_READY, VCPU_ACTIVE, VCPU_DISABLED
/// @param tdvps     the fields of TDVPS
/// @param tdVmcs    the fields of its TD VMCS; empty before TDH.VP.INIT
public record VpSnapshot(long tdvprPage, String lock, String state, Fields tdvps, Fields tdVmcs) {
}
