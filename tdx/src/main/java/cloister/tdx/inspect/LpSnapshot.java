package cloister.tdx.inspect;

/// A logical processor that has called the module.
///
/// @param lp          its number
/// @param initialized whether TDH.SYS.LP.INIT has run on it
/// @param packageId   its package
/// @param function    the host-side function that it is inside, TDH.VP.ENTER while a guest runs; empty outside
/// @param tdr         the TDR page of the TD whose virtual processor it runs; 0 when it runs none
/// @param tdvpr       the TDVPR page of that virtual processor; 0 when it runs none
/// @param vm          the VM of it that runs: 0 the TD itself, else an L2 VM
/// @param lastTdvpr   the virtual processor that ran here last, all ones when none did
public record LpSnapshot(int lp, boolean initialized, int packageId, String function, long tdr, long tdvpr, int vm, long lastTdvpr) {
}
