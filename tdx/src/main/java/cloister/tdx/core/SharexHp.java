package cloister.tdx.core;

import cloister.spec.tdx.TdxStatus;

/// Shared/exclusive try-lock with host priority: bit 0 exclusive, bit 1 host priority, bits 15:2 readers. A host that fails
/// sets host priority; a guest that meets it backs off. [TDX-BASE "Host Priority"]
public final class SharexHp {
    private static final int EXCLUSIVE = 1;
    private static final int HOST_PRIORITY = 2;
    private static final int READER = 4;

    private SharexHp() {
    }

    /// @return 0, or the busy status without operand
    public static long tryShared(LpState lp, LockWord word, boolean guest) {
        lp.cpu.switchPoint(word.owner(), word.where());
        int old = word.fetchAdd(READER);
        if (guest) {
            if ((old & HOST_PRIORITY) != 0) {
                word.fetchAdd(-READER);
                return TdxStatus.OPERAND_BUSY_HOST_PRIORITY.code();
            }
            return (old & EXCLUSIVE) != 0 ? TdxStatus.OPERAND_BUSY.code() : taken(lp, word);
        }
        if ((old & EXCLUSIVE) != 0) {
            word.fetchOr(HOST_PRIORITY);
            return TdxStatus.OPERAND_BUSY.code();
        }
        if ((old & HOST_PRIORITY) != 0) {
            word.fetchAnd(~HOST_PRIORITY);
        }
        return taken(lp, word);
    }

    /// @return 0, or the busy status without operand
    public static long tryExclusive(LpState lp, LockWord word, boolean guest) {
        lp.cpu.switchPoint(word.owner(), word.where());
        int old = word.compareAndExchange(0, EXCLUSIVE);
        if (old == HOST_PRIORITY && !guest) {
            old = word.compareAndExchange(HOST_PRIORITY, EXCLUSIVE);
            if (old == HOST_PRIORITY) {
                return taken(lp, word);
            }
        }
        if (old == 0) {
            return taken(lp, word);
        }
        if (guest) {
            return old == HOST_PRIORITY ? TdxStatus.OPERAND_BUSY_HOST_PRIORITY.code() : TdxStatus.OPERAND_BUSY.code();
        }
        word.fetchOr(HOST_PRIORITY);
        return TdxStatus.OPERAND_BUSY.code();
    }

    /// Turns the caller's shared lock into an exclusive one when it is the only reader.
    ///
    /// @return 0, or the busy status without operand
    static long tryPromote(LpState lp, LockWord word) {
        lp.cpu.switchPoint(word.owner(), word.where());
        int old = word.get();
        if ((old & ~HOST_PRIORITY) == READER && word.compareAndExchange(old, EXCLUSIVE) == old) {
            return taken(lp, word);
        }
        word.fetchOr(HOST_PRIORITY);
        return TdxStatus.OPERAND_BUSY.code();
    }

    private static long taken(LpState lp, LockWord word) {
        lp.cpu.locked(word.owner(), word.where());
        return 0;
    }

    public static void releaseShared(LockWord word) {
        word.fetchAdd(-READER);
    }

    /// Keeps host priority, wipes the rest.
    public static void releaseExclusive(LockWord word) {
        word.fetchAnd(HOST_PRIORITY);
    }
}
