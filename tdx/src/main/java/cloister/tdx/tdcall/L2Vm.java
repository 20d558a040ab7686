package cloister.tdx.tdcall;

import static cloister.tdx.core.LpState.RCX;

import cloister.spec.tdx.OperandId;
import cloister.spec.tdx.TdxStatus;
import cloister.tdx.core.LeafFailure;
import cloister.tdx.core.LpState;

/// The RCX operand of TDG.VP.ENTER and TDG.VP.INVGLA: an L2 VM in bits 53:52 and flags in the low bits. [TDX-TDP]
final class L2Vm {
    private static final int VM_SHIFT = 52;
    private static final long VM = 3L << VM_SHIFT;

    private L2Vm() {
    }

    /// The VM's number, 1 to 3.
    ///
    /// @param flags bits of RCX that mean something to the leaf
    static int operand(LpState lp, long flags) throws LeafFailure {
        long rcx = lp.vcpu.gpr(RCX);
        int vm = (int) (rcx >>> VM_SHIFT) & 3;
        if (vm == 0 || vm > lp.tdcs.numL2Vms() || (rcx & ~(VM | flags)) != 0) {
            throw new LeafFailure(TdxStatus.OPERAND_INVALID, OperandId.RCX);
        }
        return vm;
    }
}
