package cloister.tdx.core;

/// Shared/exclusive try-lock: bit 0 exclusive, bits 15:1 readers. A failed shared acquire leaves its reader counted until the
/// exclusive owner's release wipes the word. [TDX-BASE "Concurrency Restrictions and Enforcement"]
public final class Sharex {
    private static final int EXCLUSIVE = 1;
    private static final int READER = 2;

    private Sharex() {
    }

    /// A lock that is held until it is closed.
    public record Held(LockWord word, LockMode mode) implements AutoCloseable {
        @Override public void close() {
            if (mode == LockMode.EXCLUSIVE) {
                releaseExclusive(word);
            } else {
                releaseShared(word);
            }
        }
    }

    /// Takes a lock or fails with `busy`.
    public static Held hold(LpState lp, LockWord word, LockMode mode, long busy) throws LeafFailure {
        boolean locked = mode == LockMode.EXCLUSIVE ? tryExclusive(lp, word) : tryShared(lp, word);
        if (!locked) {
            throw new LeafFailure(busy);
        }
        return new Held(word, mode);
    }

    public static boolean tryShared(LpState lp, LockWord word) {
        lp.cpu.switchPoint(word.owner(), word.where());
        boolean taken = (word.fetchAdd(READER) & EXCLUSIVE) == 0;
        if (taken) {
            lp.cpu.locked(word.owner(), word.where());
        }
        return taken;
    }

    public static boolean tryExclusive(LpState lp, LockWord word) {
        lp.cpu.switchPoint(word.owner(), word.where());
        boolean taken = word.compareAndExchange(0, EXCLUSIVE) == 0;
        if (taken) {
            lp.cpu.locked(word.owner(), word.where());
        }
        return taken;
    }

    public static void releaseShared(LockWord word) {
        word.fetchAdd(-READER);
    }

    public static void releaseExclusive(LockWord word) {
        word.set(0);
    }
}
