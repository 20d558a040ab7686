package cloister.tdx.tdcall;

import static cloister.tdx.core.LpState.R8;
import static cloister.tdx.core.LpState.RCX;
import static cloister.tdx.core.LpState.RDX;

import cloister.spec.tdx.FieldId;
import cloister.spec.tdx.OperandId;
import cloister.spec.tdx.TdxStatus;
import cloister.tdx.core.FieldAccess;
import cloister.tdx.core.LeafFailure;
import cloister.tdx.core.LpState;
import cloister.tdx.core.TdMetadata;

/// TDG.VM.RD, leaf 7: reads a field of the TD; version 1 also names the next field. [TDX-ABI "TDG.VM.RD"]
final class VmRd implements GuestLeaf {
    private static final int LAST_VERSION = 1;

    @Override public Outcome call(LpState lp, int version) throws LeafFailure {
        var vcpu = lp.vcpu;
        long id = vcpu.gpr(RDX);
        if (version > 0) {
            vcpu.gpr(RDX, FieldId.NONE);
        }
        vcpu.gpr(R8, 0);
        if (version > LAST_VERSION) {
            throw new LeafFailure(TdxStatus.OPERAND_INVALID, OperandId.RAX);
        }
        if (vcpu.gpr(RCX) != 0) { // no TD but the caller's own
            throw new LeafFailure(TdxStatus.OPERAND_INVALID, OperandId.RCX);
        }
        var fields = new TdMetadata(lp.module, FieldAccess.GUEST_READ, lp.tdr, lp.tdcs);
        if (version > 0) {
            fields.readAndStep(id, vcpu::gpr);
        } else {
            fields.read(id, vcpu::gpr);
        }
        return Outcome.COMPLETED;
    }
}
