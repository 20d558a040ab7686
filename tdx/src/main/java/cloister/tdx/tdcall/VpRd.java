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
import cloister.tdx.core.VpMetadata;

/// TDG.VP.RD, leaf 9: reads a field of the VCPU and names the next one. [TDX-ABI "TDG.VP.RD"]
final class VpRd implements GuestLeaf {
    @Override public Outcome call(LpState lp, int version) throws LeafFailure {
        var vcpu = lp.vcpu;
        long id = vcpu.gpr(RDX);
        vcpu.gpr(RDX, FieldId.NONE);
        vcpu.gpr(R8, 0);
        if (vcpu.gpr(RCX) != 0) { // no VCPU but the caller's own
            throw new LeafFailure(TdxStatus.OPERAND_INVALID, OperandId.RCX);
        }
        new VpMetadata(lp, FieldAccess.GUEST_READ, lp.tdr, lp.tdcs, vcpu).readAndStep(id, vcpu::gpr);
        return Outcome.COMPLETED;
    }
}
