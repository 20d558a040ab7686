package cloister.tdx.seamcall;

import cloister.spec.tdx.OperandId;
import cloister.spec.tdx.TdxStatus;
import cloister.tdx.core.LeafFailure;
import cloister.tdx.core.LockWord;
import cloister.tdx.core.LpState;
import cloister.tdx.core.Sharex;
import cloister.tdx.core.Tdcs;

/// The lock on all of a TD's migration context, held alone. [TDX-MIG]
record MigrationLock(LockWord word) implements AutoCloseable {
    static MigrationLock lock(LpState lp, Tdcs tdcs) throws LeafFailure {
        var word = tdcs.lock(Tdcs.MIG_LOCK);
        if (!Sharex.tryExclusive(lp, word)) {
            throw new LeafFailure(TdxStatus.OPERAND_BUSY, OperandId.MIG);
        }
        return new MigrationLock(word);
    }

    @Override public void close() {
        Sharex.releaseExclusive(word);
    }
}
