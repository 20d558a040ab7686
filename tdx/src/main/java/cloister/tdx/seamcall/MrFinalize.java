package cloister.tdx.seamcall;

import static cloister.tdx.core.LpState.RCX;

import cloister.spec.tdx.OpState;
import cloister.spec.tdx.OperandId;
import cloister.spec.tdx.SeamcallLeaf;
import cloister.spec.tdx.TdxStatus;
import cloister.tdx.core.LeafFailure;
import cloister.tdx.core.LockMode;
import cloister.tdx.core.LpState;
import cloister.tdx.core.ServiceTdBinding;
import cloister.tdx.core.TdAccess;
import cloister.tdx.core.Tdcs;

/// TDH.MR.FINALIZE, leaf 17: MRTD is complete and the TD may run. [TDX-ABI "TDH.MR.FINALIZE"]
final class MrFinalize implements HostLeaf {
    @Override public void call(LpState lp, int version) throws LeafFailure {
        var module = lp.module;
        try (var tdrPage = module.lockTdr(lp, lp.reg(RCX), LockMode.EXCLUSIVE, OperandId.RCX);
                var td = TdAccess.open(lp, module.tdr(tdrPage.pa()), LockMode.NONE, SeamcallLeaf.MR_FINALIZE)) {
            var tdcs = td.tdcs();
            if (tdcs.u32(Tdcs.NUM_VCPUS) == 0) {
                throw new LeafFailure(TdxStatus.NO_VCPUS);
            }
            // All checks passed; nothing below may fail.
            tdcs.bytes(Tdcs.MRTD, module.measurement(tdrPage.pa()).finish());
            tdcs.bytes(Tdcs.SERVTD_HASH, new ServiceTdBinding(tdcs).servtdHash());
            tdcs.opState(OpState.RUNNABLE);
        }
    }
}
