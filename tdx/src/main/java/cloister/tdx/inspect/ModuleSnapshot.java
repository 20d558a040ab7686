package cloister.tdx.inspect;

import java.util.List;

/// Everything that the TDX module knows at one moment.
///
/// @param sysState          the module's state in its life cycle: INIT_PENDING, INIT_DONE, CONFIG_DONE, READY, SHUTDOWN
/// @param initializedLps    logical processors that ran TDH.SYS.LP.INIT
/// @param busyLps           logical processors inside a SEAMCALL or a TD
/// @param globalKeyId       the KeyID of the module's own pages
/// @param processors        the logical processors that have called the module
/// @param packages          the packages and their cache write-back
/// @param locks             locks of the module's data, and of PAMT entries above those of [#pamt] as far as they are not free
/// @param fields            global metadata fields; none before TDH.SYS.INIT
/// @param keyOwnershipTable the private KeyIDs
/// @param tdmrs             the memory given to the module
/// @param pamt              what every page of the TDMRs is, by rising address
/// @param tds               the trust domains, by rising address of TDR
public record ModuleSnapshot(String sysState, int initializedLps, int busyLps, int globalKeyId, List<LpSnapshot> processors,
        List<PackageSnapshot> packages, List<Lock> locks, Fields fields, List<KeyIdRange> keyOwnershipTable, List<TdmrSnapshot> tdmrs,
        List<PamtRange> pamt, List<TdSnapshot> tds) {
}
