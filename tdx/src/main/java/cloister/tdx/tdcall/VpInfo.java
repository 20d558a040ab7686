package cloister.tdx.tdcall;

import static cloister.tdx.core.LpState.R10;
import static cloister.tdx.core.LpState.R11;
import static cloister.tdx.core.LpState.R8;
import static cloister.tdx.core.LpState.R9;
import static cloister.tdx.core.LpState.RCX;
import static cloister.tdx.core.LpState.RDX;

import cloister.tdx.core.LpState;
import cloister.tdx.core.Tdcs;

/// TDG.VP.INFO, leaf 1: the TD's execution environment. [TDX-ABI "TDG.VP.INFO"]
final class VpInfo implements GuestLeaf {
    private static final long SYS_RD_AVAILABLE = 1;

    @Override public Outcome call(LpState lp, int version) {
        var vcpu = lp.vcpu;
        var tdcs = lp.tdcs;
        vcpu.gpr(RCX, tdcs.gpaw() ? 52 : 48);
        vcpu.gpr(RDX, tdcs.attributes());
        vcpu.gpr(R8, (tdcs.u32(Tdcs.NUM_VCPUS) & 0xffff_ffffL) | ((long) tdcs.u32(Tdcs.MAX_VCPUS) << 32));
        vcpu.gpr(R9, vcpu.index());
        vcpu.gpr(R10, SYS_RD_AVAILABLE);
        vcpu.gpr(R11, 0);
        return Outcome.COMPLETED;
    }
}
