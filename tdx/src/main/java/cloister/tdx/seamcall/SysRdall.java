package cloister.tdx.seamcall;

import static cloister.tdx.core.LpState.R8;
import static cloister.tdx.core.LpState.RDX;

import cloister.memory.PhysicalMemory;
import cloister.spec.tdx.FieldId;
import cloister.spec.tdx.OperandId;
import cloister.spec.tdx.TdxStatus;
import cloister.tdx.core.FieldAccess;
import cloister.tdx.core.LeafFailure;
import cloister.tdx.core.LpState;
import cloister.tdx.core.SysMetadata;

/// TDH.SYS.RDALL, leaf 37: lists the fields of the module in a page of the host. [TDX-ABI "TDH.SYS.RDALL"]
final class SysRdall implements HostLeaf {
    @Override public void call(LpState lp, int version) throws LeafFailure {
        long listHpa = lp.reg(RDX);
        long firstId = lp.reg(R8);
        lp.reg(R8, FieldId.NONE);
        if (!lp.initialized) {
            throw new LeafFailure(TdxStatus.SYS_LP_INIT_NOT_DONE);
        }
        lp.module.requireShared(listHpa, PhysicalMemory.FRAME_SIZE, OperandId.RDX);
        new SysMetadata(lp.module, FieldAccess.HOST_READ).list(lp.module.memory, listHpa, firstId, lp::reg);
    }
}
