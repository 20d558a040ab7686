package cloister.tdx.tdcall;

import static cloister.tdx.core.LpState.R8;
import static cloister.tdx.core.LpState.R9;
import static cloister.tdx.core.LpState.RDX;

import cloister.spec.tdx.TdcallLeaf;
import cloister.tdx.core.FieldAccess;
import cloister.tdx.core.LeafFailure;
import cloister.tdx.core.LpState;

/// TDG.SERVTD.WR, leaf 20: a service TD writes a metadata field of a TD that it is bound to. [TDX-ABI "TDG.SERVTD.WR"]
final class ServtdWr implements GuestLeaf {
    @Override public Outcome call(LpState lp, int version) throws LeafFailure {
        var vcpu = lp.vcpu;
        long value = vcpu.gpr(R8);
        vcpu.gpr(R8, 0);
        TargetTd.access(lp, TdcallLeaf.SERVTD_WR, FieldAccess.SERVICE_TD_WRITE,
                fields -> vcpu.gpr(R8, fields.write(vcpu.gpr(RDX), value, vcpu.gpr(R9))));
        return Outcome.COMPLETED;
    }
}
