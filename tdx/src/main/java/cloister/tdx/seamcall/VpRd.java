package cloister.tdx.seamcall;

import static cloister.tdx.core.LpState.R8;
import static cloister.tdx.core.LpState.RDX;

import cloister.spec.tdx.FieldId;
import cloister.spec.tdx.OperandId;
import cloister.spec.tdx.SeamcallLeaf;
import cloister.spec.tdx.TdxStatus;
import cloister.tdx.core.FieldAccess;
import cloister.tdx.core.LeafFailure;
import cloister.tdx.core.LpState;

/// TDH.VP.RD, leaf 26: reads a field of a VCPU, even a disabled one; version 1 also names the next field.
/// [TDX-ABI "TDH.VP.RD Leaf"]
final class VpRd implements HostLeaf {
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
        VcpuFields.access(lp, SeamcallLeaf.VP_RD, FieldAccess.HOST_READ, fields -> {
            if (version > 0) {
                fields.readAndStep(id, lp::reg);
            } else {
                fields.read(id, lp::reg);
            }
        });
    }
}
