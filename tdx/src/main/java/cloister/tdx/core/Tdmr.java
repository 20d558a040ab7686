package cloister.tdx.core;

/// A trust-domain memory region with its PAMT ranges. [TDX-BASE "TDMR"]
final class Tdmr {
    final TdmrInfo info;
    final LockWord.Own lock = new LockWord.Own();
    /// The first address whose PAMT entries are not initialised yet.
    long lastInitialized;

    Tdmr(TdmrInfo info) {
        this.info = info;
        this.lastInitialized = info.base();
    }
}
