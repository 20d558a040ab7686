package cloister.tdx.tdcall;

import static cloister.tdx.core.LpState.R8;
import static cloister.tdx.core.LpState.R9;
import static cloister.tdx.core.LpState.RCX;
import static cloister.tdx.core.LpState.RDX;

import cloister.spec.tdx.OperandId;
import cloister.spec.tdx.TdxStatus;
import cloister.tdx.core.FieldAccess;
import cloister.tdx.core.LeafFailure;
import cloister.tdx.core.LpState;
import cloister.tdx.core.VpMetadata;

/// TDG.VP.WR, leaf 10: writes bits of a field of the VCPU. [TDX-ABI "TDG.VP.WR"]
final class VpWr implements GuestLeaf {
    @Override public Outcome call(LpState lp, int version) throws LeafFailure {
        var vcpu = lp.vcpu;
        long value = vcpu.gpr(R8);
        vcpu.gpr(R8, 0);
        if (vcpu.gpr(RCX) != 0) { // no VCPU but the caller's own
            throw new LeafFailure(TdxStatus.OPERAND_INVALID, OperandId.RCX);
        }
        var fields = new VpMetadata(lp, FieldAccess.GUEST_WRITE, lp.tdr, lp.tdcs, vcpu);
        vcpu.gpr(R8, fields.write(vcpu.gpr(RDX), value, vcpu.gpr(R9)));
        return Outcome.COMPLETED;
    }
}
