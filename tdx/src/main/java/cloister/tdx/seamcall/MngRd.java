package cloister.tdx.seamcall;

import static cloister.tdx.core.LpState.RCX;

import cloister.spec.tdx.OperandId;
import cloister.spec.tdx.SeamcallLeaf;
import cloister.tdx.core.FieldAccess;
import cloister.tdx.core.LeafFailure;
import cloister.tdx.core.LockMode;
import cloister.tdx.core.LpState;
import cloister.tdx.core.TdAccess;
import cloister.tdx.core.TdMetadata;

/// TDH.MNG.RD, leaf 11: reads a field of a TD; version 1 also names the next field. [TDX-ABI "TDH.MNG.RD"]
final class MngRd implements HostLeaf {
    @Override public void call(LpState lp, int version) throws LeafFailure {
        var read = new FieldRead(lp, version);
        var module = lp.module;
        try (var tdrPage = module.lockTdr(lp, lp.reg(RCX), LockMode.SHARED, OperandId.RCX);
                var td = TdAccess.open(lp, module.tdr(tdrPage.pa()), LockMode.SHARED, SeamcallLeaf.MNG_RD)) {
            read.from(new TdMetadata(module, FieldAccess.HOST_READ, td.tdr(), td.tdcs()));
        }
    }
}
