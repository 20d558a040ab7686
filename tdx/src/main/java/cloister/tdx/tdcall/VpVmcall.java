package cloister.tdx.tdcall;

import static cloister.tdx.core.LpState.RCX;

import cloister.spec.tdx.OperandId;
import cloister.spec.tdx.TdxStatus;
import cloister.tdx.core.LeafFailure;
import cloister.tdx.core.LpState;
import cloister.tdx.core.Tdcs;
import cloister.tdx.exits.TdExit;

/// TDG.VP.VMCALL, leaf 0: a TD exit that the guest asks for. [TDX-ABI "TDG.VP.VMCALL"]
final class VpVmcall implements GuestLeaf {
    private static final int NEVER_PASSED = (1 << LpState.RAX) | (1 << RCX) | (1 << LpState.RSP);

    @Override public Outcome call(LpState lp, int version) throws LeafFailure {
        long mask = lp.vcpu.gpr(RCX);
        int forbidden = NEVER_PASSED | (lp.tdcs.configFlag(Tdcs.NO_RBP_MOD) ? 1 << LpState.RBP : 0);
        if ((mask & forbidden) != 0 || mask >>> 32 != 0) {
            throw new LeafFailure(TdxStatus.OPERAND_INVALID, OperandId.RCX);
        }
        throw TdExit.vmcall(lp, mask);
    }
}
