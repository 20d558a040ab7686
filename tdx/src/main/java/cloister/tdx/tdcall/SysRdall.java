package cloister.tdx.tdcall;

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
import cloister.tdx.exits.GuestMemory;

/// TDG.SYS.RDALL, leaf 12: lists the fields of the module in a private page of the TD. [TDX-ABI "TDG.SYS.RDALL"]
///
/// A page that is not there ends the call by a TD exit or a #VE with R8 already overwritten: executed again, it lists from the
/// first field on.
final class SysRdall implements GuestLeaf {
    @Override public Outcome call(LpState lp, int version) throws LeafFailure {
        var vcpu = lp.vcpu;
        long listGpa = vcpu.gpr(RDX);
        long firstId = vcpu.gpr(R8);
        vcpu.gpr(R8, FieldId.NONE);
        if ((listGpa & (PhysicalMemory.FRAME_SIZE - 1)) != 0) {
            throw new LeafFailure(TdxStatus.OPERAND_INVALID, OperandId.RDX);
        }
        long listHpa = GuestMemory.operand(lp, listGpa, GuestMemory.WRITE, true, OperandId.RDX);
        new SysMetadata(lp.module, FieldAccess.GUEST_READ).list(lp.module.memory, listHpa, firstId, vcpu::gpr);
        return Outcome.COMPLETED;
    }
}
