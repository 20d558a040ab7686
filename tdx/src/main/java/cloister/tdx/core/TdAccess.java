package cloister.tdx.core;

import cloister.spec.tdx.OperandId;
import cloister.spec.tdx.SeamcallLeaf;
import cloister.spec.tdx.TdcallLeaf;
import cloister.spec.tdx.TdxStatus;

/// A TD's TDCS, checked to be in a state that allows the leaf; the operation-state lock is held until close, if it was asked for.
public record TdAccess(Tdr tdr, Tdcs tdcs, LockMode opStateLock) implements AutoCloseable {
    /// @throws LeafFailure in the order fatal, keys, pages
    public static void require(Tdr tdr) throws LeafFailure {
        if (tdr.fatal()) {
            throw new LeafFailure(TdxStatus.TD_FATAL);
        }
        if (tdr.lifecycleState() != Tdr.KEYS_CONFIGURED) {
            throw new LeafFailure(TdxStatus.TD_KEYS_NOT_CONFIGURED);
        }
        if (tdr.numTdcx() < Tdcs.MIN_PAGES) {
            throw new LeafFailure(TdxStatus.TDCS_NOT_ALLOCATED);
        }
    }

    /// @throws LeafFailure in the order fatal, keys, pages, lock, state
    public static TdAccess open(LpState lp, Tdr tdr, LockMode lock, SeamcallLeaf leaf) throws LeafFailure {
        var td = lock(lp, tdr, lock, false);
        return td.orRefuse(td.tdcs.opState().allows(leaf));
    }

    /// Opens the TD that TDH.SERVTD.BIND makes the service TD of another.
    public static TdAccess openServiceTd(LpState lp, Tdr tdr) throws LeafFailure {
        var td = lock(lp, tdr, LockMode.SHARED, false);
        return td.orRefuse(td.tdcs.opState().canServe());
    }

    /// Opens another TD for `leaf` of a service TD.
    public static TdAccess openByServiceTd(LpState lp, Tdr tdr, TdcallLeaf leaf) throws LeafFailure {
        var td = lock(lp, tdr, LockMode.SHARED, true);
        return td.orRefuse(td.tdcs.opState().allows(leaf));
    }

    private static TdAccess lock(LpState lp, Tdr tdr, LockMode lock, boolean guest) throws LeafFailure {
        require(tdr);
        var tdcs = new Tdcs(lp.module.memory, tdr);
        if (lock != LockMode.NONE) {
            var word = tdcs.lock(Tdcs.OP_STATE_LOCK);
            long busy = lock == LockMode.EXCLUSIVE ? SharexHp.tryExclusive(lp, word, guest)
                    : SharexHp.tryShared(lp, word, guest);
            if (busy != 0) {
                throw new LeafFailure(busy | OperandId.OP_STATE);
            }
        }
        return new TdAccess(tdr, tdcs, lock);
    }

    private TdAccess orRefuse(boolean legal) throws LeafFailure {
        if (!legal) {
            close();
            throw new LeafFailure(TdxStatus.OP_STATE_INCORRECT);
        }
        return this;
    }

    @Override public void close() {
        switch (opStateLock) {
            case NONE -> {
            }
            case SHARED -> SharexHp.releaseShared(tdcs.lock(Tdcs.OP_STATE_LOCK));
            case EXCLUSIVE -> SharexHp.releaseExclusive(tdcs.lock(Tdcs.OP_STATE_LOCK));
        }
    }

    public Sept sept() {
        return new Sept(tdcs.memory, tdr.keyId());
    }
}
