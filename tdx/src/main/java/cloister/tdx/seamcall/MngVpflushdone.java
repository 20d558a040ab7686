package cloister.tdx.seamcall;

import static cloister.tdx.core.LpState.RCX;

import cloister.spec.tdx.OperandId;
import cloister.spec.tdx.TdxStatus;
import cloister.tdx.core.KeyOwnership;
import cloister.tdx.core.LeafFailure;
import cloister.tdx.core.LockMode;
import cloister.tdx.core.LpState;
import cloister.tdx.core.Tdcs;
import cloister.tdx.core.Tdr;

/// TDH.MNG.VPFLUSHDONE, leaf 19: no LP holds anything of the TD's VCPUs any more; the TD is blocked.
/// [TDX-ABI "TDH.MNG.VPFLUSHDONE"]
final class MngVpflushdone implements HostLeaf {
    @Override public void call(LpState lp, int version) throws LeafFailure {
        var module = lp.module;
        try (var page = module.lockTdr(lp, lp.reg(RCX), LockMode.EXCLUSIVE, OperandId.RCX);
                var _ = module.keys.lockExclusive(lp)) {
            var tdr = module.tdr(page.pa());
            int state = tdr.lifecycleState();
            if (state != Tdr.KEYS_CONFIGURED && state != Tdr.HKID_ASSIGNED) {
                throw new LeafFailure(TdxStatus.LIFECYCLE_STATE_INCORRECT);
            }
            if (tdr.numTdcx() >= Tdcs.MIN_PAGES) {
                var tdcs = new Tdcs(module.memory, tdr);
                if (tdcs.opState().anyInitialized() && tdcs.u32(Tdcs.NUM_ASSOC_VCPUS) != 0) {
                    throw new LeafFailure(TdxStatus.FLUSHVP_NOT_DONE);
                }
            }
            // All checks passed; nothing below may fail.
            module.keys.writeBackPackages(tdr.keyId(), module.packageConfigBitmap);
            tdr.u32(Tdr.LIFECYCLE_STATE, Tdr.BLOCKED);
            module.keys.state(tdr.keyId(), KeyOwnership.State.FLUSHED);
        }
    }
}
