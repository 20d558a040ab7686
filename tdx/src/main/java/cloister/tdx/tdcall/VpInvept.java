package cloister.tdx.tdcall;

import static cloister.tdx.core.LpState.RCX;

import cloister.spec.tdx.OperandId;
import cloister.spec.tdx.TdxStatus;
import cloister.tdx.core.LeafFailure;
import cloister.tdx.core.LpState;

/// TDG.VP.INVEPT, leaf 26: INVEPT for the L2 VMs of a bitmap. [TDX-ABI "TDG.VP.INVEPT"]
final class VpInvept implements GuestLeaf {
    private static final long L1 = 1;

    @Override public Outcome call(LpState lp, int version) throws LeafFailure {
        long vms = lp.vcpu.gpr(RCX);
        int l2Vms = lp.tdcs.numL2Vms();
        if ((vms & L1) != 0 || vms >>> (l2Vms + 1) != 0) {
            throw new LeafFailure(TdxStatus.OPERAND_INVALID, OperandId.RCX);
        }
        for (int vm = 1; vm <= l2Vms; vm++) {
            if (((vms >>> vm) & 1) != 0) {
                lp.cpu.invept(lp.tdcs.septp(lp.tdr, vm));
            }
        }
        return Outcome.COMPLETED;
    }
}
