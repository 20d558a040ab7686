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
import cloister.tdx.core.TdMetadata;

/// TDG.VM.WR, leaf 8: writes bits of a field of the TD. [TDX-ABI "TDG.VM.WR"]
final class VmWr implements GuestLeaf {
    @Override public Outcome call(LpState lp, int version) throws LeafFailure {
        var vcpu = lp.vcpu;
        long value = vcpu.gpr(R8);
        vcpu.gpr(R8, 0);
        if (vcpu.gpr(RCX) != 0) { // no TD but the caller's own
            throw new LeafFailure(TdxStatus.OPERAND_INVALID, OperandId.RCX);
        }
        var fields = new TdMetadata(lp.module, FieldAccess.GUEST_WRITE, lp.tdr, lp.tdcs);
        vcpu.gpr(R8, fields.write(vcpu.gpr(RDX), value, vcpu.gpr(R9)));
        return Outcome.COMPLETED;
    }
}
