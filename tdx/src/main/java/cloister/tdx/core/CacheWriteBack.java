package cloister.tdx.core;

import java.util.BitSet;

/// A package's cache write-back cycle. [TDX-BASE "WBT"]
public final class CacheWriteBack {
    public final LockWord.Own lock = new LockWord.Own();
    /// The next cache sub-block of an interrupted cycle; 0: none is interrupted.
    public long interruptionPoint;
    /// KeyIDs that were flushed when the cycle began.
    public final BitSet flushedKeyIds = new BitSet();
}
