package cloister.tdx.tdcall;

import static cloister.tdx.core.LpState.R10;
import static cloister.tdx.core.LpState.R11;
import static cloister.tdx.core.LpState.R8;
import static cloister.tdx.core.LpState.R9;
import static cloister.tdx.core.LpState.RCX;
import static cloister.tdx.core.LpState.RDX;

import cloister.spec.tdx.OperandId;
import cloister.spec.tdx.TdxStatus;
import cloister.tdx.core.LeafFailure;
import cloister.tdx.core.LpState;
import cloister.tdx.core.Tdcs;
import cloister.tdx.core.Tdvps;

/// The small guest-side functions of the VCPU: TDG.VP.*. [TDX-ABI "Guest-Side (TDCALL) Interface Functions"]
public final class GuestLeaves {
    private GuestLeaves() {
    }

    public static void info(LpState lp) {
        var vcpu = lp.vcpu;
        var tdcs = lp.tdcs;
        vcpu.gpr(RCX, tdcs.gpaw() ? 52 : 48);
        vcpu.gpr(RDX, tdcs.attributes());
        vcpu.gpr(R8, tdcs.u32(Tdcs.NUM_VCPUS) & 0xffff_ffffL | (long) tdcs.u32(Tdcs.MAX_VCPUS) << 32);
        vcpu.gpr(R9, vcpu.index());
        vcpu.gpr(R10, 1); // TDG.SYS.RD is available
        vcpu.gpr(R11, 0);
    }

    public static void veInfo(LpState lp) throws LeafFailure {
        var vcpu = lp.vcpu;
        for (int register : new int[] {RCX, RDX, R8, R9, R10}) {
            vcpu.gpr(register, 0);
        }
        if (!vcpu.veInfoValid()) {
            throw new LeafFailure(TdxStatus.NO_VALID_VE_INFO);
        }
        vcpu.gpr(RCX, vcpu.u32(Tdvps.VE_EXIT_REASON) & 0xffff_ffffL);
        vcpu.gpr(RDX, vcpu.u64(Tdvps.VE_QUALIFICATION));
        vcpu.gpr(R8, vcpu.u64(Tdvps.VE_GLA));
        vcpu.gpr(R9, vcpu.u64(Tdvps.VE_GPA));
        vcpu.gpr(R10, vcpu.u32(Tdvps.VE_INSTRUCTION_LENGTH) & 0xffff_ffffL
                | (long) vcpu.u32(Tdvps.VE_INSTRUCTION_INFO) << 32);
        vcpu.u32(Tdvps.VE_VALID, 0);
    }

    public static void cpuidVe(LpState lp) throws LeafFailure {
        long control = lp.vcpu.gpr(RCX);
        if (control >>> 2 != 0) {
            throw new LeafFailure(TdxStatus.OPERAND_INVALID, OperandId.RCX);
        }
        lp.vcpu.flag(Tdvps.CPUID_SUPERVISOR_VE, (control & 1) != 0);
        lp.vcpu.flag(Tdvps.CPUID_USER_VE, (control & 2) != 0);
    }
}
