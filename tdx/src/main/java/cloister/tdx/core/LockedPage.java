package cloister.tdx.core;

/// A page whose PAMT entry is locked, with the shared locks on the entries above it.
///
/// @param size 0 4 KiB, 1 2 MiB, 2 1 GiB
/// @param upper entry of the 1 GiB above, or null
/// @param middle entry of the 2 MiB above, or null
public record LockedPage(long pa, int size, LockMode mode, PamtEntry entry, PamtEntry upper, PamtEntry middle)
        implements AutoCloseable {
    @Override public void close() {
        if (mode == LockMode.EXCLUSIVE) {
            SharexHp.releaseExclusive(entry.lock());
        } else {
            SharexHp.releaseShared(entry.lock());
        }
        if (middle != null) {
            SharexHp.releaseShared(middle.lock());
        }
        if (upper != null) {
            SharexHp.releaseShared(upper.lock());
        }
    }
}
