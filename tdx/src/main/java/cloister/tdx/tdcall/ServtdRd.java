package cloister.tdx.tdcall;

import static cloister.tdx.core.LpState.R8;
import static cloister.tdx.core.LpState.RDX;

import cloister.spec.tdx.FieldId;
import cloister.spec.tdx.TdcallLeaf;
import cloister.tdx.core.FieldAccess;
import cloister.tdx.core.LeafFailure;
import cloister.tdx.core.LpState;

/// TDG.SERVTD.RD, leaf 18: a service TD reads a metadata field of a TD that it is bound to. [TDX-ABI "TDG.SERVTD.RD"]
final class ServtdRd implements GuestLeaf {
    @Override public Outcome call(LpState lp, int version) throws LeafFailure {
        var vcpu = lp.vcpu;
        long id = vcpu.gpr(RDX);
        vcpu.gpr(RDX, FieldId.NONE);
        vcpu.gpr(R8, 0);
        TargetTd.access(lp, TdcallLeaf.SERVTD_RD, FieldAccess.SERVICE_TD_READ, fields -> fields.readAndStep(id, vcpu::gpr));
        return Outcome.COMPLETED;
    }
}
