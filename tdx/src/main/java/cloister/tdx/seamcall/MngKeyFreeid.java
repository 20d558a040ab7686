package cloister.tdx.seamcall;

import static cloister.tdx.core.LpState.RCX;

import cloister.spec.tdx.OperandId;
import cloister.spec.tdx.TdxStatus;
import cloister.tdx.core.KeyOwnership;
import cloister.tdx.core.LeafFailure;
import cloister.tdx.core.LockMode;
import cloister.tdx.core.LpState;
import cloister.tdx.core.Tdr;

/// TDH.MNG.KEY.FREEID, leaf 20: once all caches are written back the TD's KeyID is free. [TDX-ABI "TDH.MNG.KEY.FREEID"]
final class MngKeyFreeid implements HostLeaf {
    @Override public void call(LpState lp, int version) throws LeafFailure {
        var module = lp.module;
        try (var page = module.lockTdr(lp, lp.reg(RCX), LockMode.EXCLUSIVE, OperandId.RCX)) {
            var tdr = module.tdr(page.pa());
            if (tdr.lifecycleState() != Tdr.BLOCKED) {
                throw new LeafFailure(TdxStatus.LIFECYCLE_STATE_INCORRECT);
            }
            try (var _ = module.keys.lockExclusive(lp)) {
                if (module.keys.writeBackPackages(tdr.keyId()) != 0) {
                    throw new LeafFailure(TdxStatus.WBCACHE_NOT_COMPLETE);
                }
                // All checks passed; nothing below may fail.
                module.keys.state(tdr.keyId(), KeyOwnership.State.FREE);
                tdr.u32(Tdr.LIFECYCLE_STATE, Tdr.TEARDOWN);
            }
        }
    }
}
