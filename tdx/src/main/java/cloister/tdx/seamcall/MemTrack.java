package cloister.tdx.seamcall;

import static cloister.tdx.core.LpState.RCX;

import cloister.spec.tdx.OperandId;
import cloister.spec.tdx.SeamcallLeaf;
import cloister.spec.tdx.TdxStatus;
import cloister.tdx.core.LeafFailure;
import cloister.tdx.core.LockMode;
import cloister.tdx.core.LpState;
import cloister.tdx.core.Sharex;
import cloister.tdx.core.TdAccess;
import cloister.tdx.core.Tdcs;

/// TDH.MEM.TRACK, leaf 38: the next TLB epoch begins, once no processor is left in the one before this.
/// [TDX-ABI "TDH.MEM.TRACK"]
final class MemTrack implements HostLeaf {
    @Override public void call(LpState lp, int version) throws LeafFailure {
        var module = lp.module;
        try (var page = module.lockTdr(lp, lp.reg(RCX), LockMode.SHARED, OperandId.RCX);
                var td = TdAccess.open(lp, module.tdr(page.pa()), LockMode.SHARED, SeamcallLeaf.MEM_TRACK)) {
            var tdcs = td.tdcs();
            var lock = tdcs.lock(Tdcs.EPOCH_LOCK);
            if (!Sharex.tryExclusive(lp, lock)) {
                throw new LeafFailure(TdxStatus.OPERAND_BUSY, OperandId.TD_EPOCH);
            }
            try {
                if (tdcs.refcount(tdcs.epoch() - 1) != 0) {
                    throw new LeafFailure(TdxStatus.PREVIOUS_TLB_EPOCH_BUSY);
                }
                tdcs.u64(Tdcs.TD_EPOCH, tdcs.epoch() + 1);
            } finally {
                Sharex.releaseExclusive(lock);
            }
        }
    }
}
