package cloister.tdx.core;

/// A trust-domain memory region with its PAMT ranges. [TDX-BASE "TDMR"]
public final class Tdmr {
    public final TdmrInfo info;
    public final LockWord.Own lock = new LockWord.Own();
    /// The first address whose PAMT entries are not initialised yet.
    public long lastInitialized;

    public Tdmr(TdmrInfo info) {
        this.info = info;
        this.lastInitialized = info.base();
    }
}
