package cloister.tdx.seamcall;

import static cloister.tdx.core.LpState.R8;
import static cloister.tdx.core.LpState.RCX;
import static cloister.tdx.core.LpState.RDX;

import cloister.spec.tdx.FieldId;
import cloister.spec.tdx.OperandId;
import cloister.spec.tdx.SeamcallLeaf;
import cloister.spec.tdx.TdxStatus;
import cloister.tdx.core.FieldAccess;
import cloister.tdx.core.LeafFailure;
import cloister.tdx.core.LockMode;
import cloister.tdx.core.LpState;
import cloister.tdx.core.TdAccess;
import cloister.tdx.core.TdMetadata;

/// TDH.MNG.RD, leaf 11: reads a field of a TD; version 1 also names the next field. [TDX-ABI "TDH.MNG.RD Leaf"]
final class MngRd implements HostLeaf {
    private static final int LAST_VERSION = 1;

    @Override public void call(LpState lp, int version) throws LeafFailure {
        long id = lp.reg(RDX);
        if (version > 0) {
            lp.reg(RDX, FieldId.NONE);
        }
        lp.reg(R8, 0);
        if (version > LAST_VERSION) {
            throw new LeafFailure(TdxStatus.OPERAND_INVALID, OperandId.RAX);
        }
        var module = lp.module;
        try (var tdrPage = module.lockTdr(lp, lp.reg(RCX), LockMode.SHARED, OperandId.RCX);
                var td = TdAccess.open(lp, module.tdr(tdrPage.pa()), LockMode.SHARED, SeamcallLeaf.MNG_RD)) {
            var fields = new TdMetadata(module, FieldAccess.HOST_READ, td.tdr(), td.tdcs());
            if (version > 0) {
                fields.readAndStep(id, lp::reg);
            } else {
                fields.read(id, lp::reg);
            }
        }
    }
}
