package cloister.tdx.seamcall;

import static cloister.tdx.core.LpState.R8;
import static cloister.tdx.core.LpState.RDX;

import cloister.spec.tdx.FieldId;
import cloister.spec.tdx.TdxStatus;
import cloister.tdx.core.FieldAccess;
import cloister.tdx.core.LeafFailure;
import cloister.tdx.core.LpState;
import cloister.tdx.core.SysMetadata;

/// TDH.SYS.RD, leaf 34: reads a field of the module. [TDX-ABI "TDH.SYS.RD"]
final class SysRd implements HostLeaf {
    @Override public void call(LpState lp, int version) throws LeafFailure {
        long id = lp.reg(RDX);
        lp.reg(RDX, FieldId.NONE);
        lp.reg(R8, 0);
        if (!lp.initialized) {
            throw new LeafFailure(TdxStatus.SYS_LP_INIT_NOT_DONE);
        }
        new SysMetadata(lp.module, FieldAccess.HOST_READ).readAndStep(id, lp::reg);
    }
}
