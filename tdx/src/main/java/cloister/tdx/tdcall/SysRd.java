package cloister.tdx.tdcall;

import static cloister.tdx.core.LpState.R8;
import static cloister.tdx.core.LpState.RDX;

import cloister.spec.tdx.FieldId;
import cloister.tdx.core.FieldAccess;
import cloister.tdx.core.LeafFailure;
import cloister.tdx.core.LpState;
import cloister.tdx.core.SysMetadata;

/// TDG.SYS.RD, leaf 11: reads a field of the module. [TDX-ABI "TDG.SYS.RD"]
final class SysRd implements GuestLeaf {
    @Override public Outcome call(LpState lp, int version) throws LeafFailure {
        var vcpu = lp.vcpu;
        long id = vcpu.gpr(RDX);
        vcpu.gpr(RDX, FieldId.NONE);
        vcpu.gpr(R8, 0);
        new SysMetadata(lp.module, FieldAccess.GUEST_READ).readAndStep(id, vcpu::gpr);
        return Outcome.COMPLETED;
    }
}
