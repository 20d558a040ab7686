package cloister.tdx.seamcall;

import static cloister.tdx.core.LpState.R8;
import static cloister.tdx.core.LpState.R9;
import static cloister.tdx.core.LpState.RCX;
import static cloister.tdx.core.LpState.RDX;

import cloister.spec.tdx.OperandId;
import cloister.spec.tdx.SeamcallLeaf;
import cloister.tdx.core.FieldAccess;
import cloister.tdx.core.LeafFailure;
import cloister.tdx.core.LockMode;
import cloister.tdx.core.LpState;
import cloister.tdx.core.TdAccess;
import cloister.tdx.core.TdMetadata;

/// TDH.MNG.WR, leaf 13: writes bits of a field of a TD. [TDX-ABI "TDH.MNG.WR"]
final class MngWr implements HostLeaf {
    @Override public void call(LpState lp, int version) throws LeafFailure {
        long value = lp.reg(R8);
        lp.reg(R8, 0);
        var module = lp.module;
        try (var tdrPage = module.lockTdr(lp, lp.reg(RCX), LockMode.SHARED, OperandId.RCX);
                var td = TdAccess.open(lp, module.tdr(tdrPage.pa()), LockMode.SHARED, SeamcallLeaf.MNG_WR)) {
            var fields = new TdMetadata(module, FieldAccess.HOST_WRITE, td.tdr(), td.tdcs());
            lp.reg(R8, fields.write(lp.reg(RDX), value, lp.reg(R9)));
        }
    }
}
