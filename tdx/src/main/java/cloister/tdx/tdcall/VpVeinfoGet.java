package cloister.tdx.tdcall;

import static cloister.tdx.core.LpState.R10;
import static cloister.tdx.core.LpState.R8;
import static cloister.tdx.core.LpState.R9;
import static cloister.tdx.core.LpState.RCX;
import static cloister.tdx.core.LpState.RDX;

import cloister.spec.tdx.TdxStatus;
import cloister.tdx.core.LeafFailure;
import cloister.tdx.core.LpState;
import cloister.tdx.core.Tdvps;

/// TDG.VP.VEINFO.GET, leaf 3: what the last #VE was about; makes room for the next. [TDX-ABI "TDG.VP.VEINFO.GET"]
final class VpVeinfoGet implements GuestLeaf {
    @Override public Outcome call(LpState lp, int version) throws LeafFailure {
        var vcpu = lp.vcpu;
        vcpu.gpr(RCX, 0);
        vcpu.gpr(RDX, 0);
        vcpu.gpr(R8, 0);
        vcpu.gpr(R9, 0);
        vcpu.gpr(R10, 0);
        if (!vcpu.veInfoValid()) {
            throw new LeafFailure(TdxStatus.NO_VALID_VE_INFO);
        }
        vcpu.gpr(RCX, vcpu.u32(Tdvps.VE_EXIT_REASON) & 0xffff_ffffL);
        vcpu.gpr(RDX, vcpu.u64(Tdvps.VE_QUALIFICATION));
        vcpu.gpr(R8, vcpu.u64(Tdvps.VE_GLA));
        vcpu.gpr(R9, vcpu.u64(Tdvps.VE_GPA));
        vcpu.gpr(R10, (vcpu.u32(Tdvps.VE_INSTRUCTION_LENGTH) & 0xffff_ffffL)
                | ((long) vcpu.u32(Tdvps.VE_INSTRUCTION_INFO) << 32));
        vcpu.u32(Tdvps.VE_VALID, 0);
        return Outcome.COMPLETED;
    }
}
