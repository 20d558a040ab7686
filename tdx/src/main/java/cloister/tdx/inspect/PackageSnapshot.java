package cloister.tdx.inspect;

import java.util.List;

/// A package's cache write-back cycle, TDH.PHYMEM.CACHE.WB. [TDX-BASE "WBT"]
///
/// @param index             its number
/// @param globalKey         whether TDH.SYS.KEY.CONFIG has configured the global KeyID's key on it
/// @param lock              its WBCACHE lock
/// @param interruptionPoint the next cache sub-block of an interrupted cycle; 0 when none is interrupted
/// @param flushedKeyIds     the KeyIDs that the interrupted cycle writes back
public record PackageSnapshot(int index, boolean globalKey, Lock lock, long interruptionPoint, List<Integer> flushedKeyIds) {
}
