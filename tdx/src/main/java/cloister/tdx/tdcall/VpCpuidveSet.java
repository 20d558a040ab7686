package cloister.tdx.tdcall;

import static cloister.tdx.core.LpState.RCX;

import cloister.spec.tdx.OperandId;
import cloister.spec.tdx.TdxStatus;
import cloister.tdx.core.LeafFailure;
import cloister.tdx.core.LpState;
import cloister.tdx.core.Tdvps;

/// TDG.VP.CPUIDVE.SET, leaf 5: whether every CPUID raises #VE, for CPL 0 and above it. [TDX-ABI "TDG.VP.CPUIDVE.SET"]
final class VpCpuidveSet implements GuestLeaf {
    private static final long SUPERVISOR = 1;
    private static final long USER = 2;

    @Override public Outcome call(LpState lp, int version) throws LeafFailure {
        long control = lp.vcpu.gpr(RCX);
        if ((control & ~(SUPERVISOR | USER)) != 0) {
            throw new LeafFailure(TdxStatus.OPERAND_INVALID, OperandId.RCX);
        }
        lp.vcpu.flag(Tdvps.CPUID_SUPERVISOR_VE, (control & SUPERVISOR) != 0);
        lp.vcpu.flag(Tdvps.CPUID_USER_VE, (control & USER) != 0);
        return Outcome.COMPLETED;
    }
}
