package cloister.tdx.inspect;

import java.util.List;

/// A trust domain.
///
/// @param tdrPage        physical address of its TDR page
/// @param lifecycleState TD_HKID_ASSIGNED, TD_KEYS_CONFIGURED, TD_BLOCKED, TD_TEARDOWN
/// @param opState        its operation state; `none` while it has no TDCS or none that can be read
/// @param locks          its locks, that of the TDR page first
/// @param measurements   MRTD and the RTMRs
/// @param tdr            the fields of TDR
/// @param tdcs           the fields of TDCS; empty without one
/// @param vps            its virtual processors: those that TDH.VP.INIT has initialised by VCPU_INDEX, then the others by address
/// @param secureEpt      the root of its Secure EPT; null before TDH.MNG.INIT and after its KeyID was freed
/// @param l2SecureEpts   the roots of the Secure EPTs of its L2 VMs, from VM 1; none without [#secureEpt]
public record TdSnapshot(long tdrPage, String lifecycleState, String opState, List<Lock> locks, List<Measurement> measurements,
        Fields tdr, Fields tdcs, List<VpSnapshot> vps, SeptTable secureEpt, List<SeptTable> l2SecureEpts) {
    /// A measurement register.
    ///
    /// @param name   MRTD, RTMR0, ...
    /// @param digest its bytes in hexadecimal
    public record Measurement(String name, String digest) {
    }
}
