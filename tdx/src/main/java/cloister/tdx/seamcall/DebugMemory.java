package cloister.tdx.seamcall;

import static cloister.tdx.core.LpState.R8;
import static cloister.tdx.core.LpState.RCX;
import static cloister.tdx.core.LpState.RDX;

import cloister.spec.tdx.OperandId;
import cloister.spec.tdx.SeamcallLeaf;
import cloister.spec.tdx.TdxStatus;
import cloister.tdx.core.LeafFailure;
import cloister.tdx.core.LpState;
import cloister.tdx.core.SeptTarget;

/// Eight bytes of a debug TD's private memory, for TDH.MEM.RD and TDH.MEM.WR. [TDX-BASE "Debug TD Memory Access"]
final class DebugMemory {
    /// What happens to the bytes, after they were read for R8.
    @FunctionalInterface
    interface Access {
        void at(long hpa);
    }

    private DebugMemory() {
    }

    static void access(LpState lp, SeamcallLeaf leaf, Access access) throws LeafFailure {
        long gpa = lp.reg(RCX);
        long tdrPa = lp.reg(RDX);
        lp.reg(RCX, 0);
        lp.reg(RDX, 0);
        lp.reg(R8, 0);
        try (var target = SeptTarget.openTd(lp, leaf, tdrPa)) {
            if (!target.td.tdcs().debug()) {
                throw new LeafFailure(TdxStatus.TD_NON_DEBUG);
            }
            if ((gpa & 7) != 0) {
                throw new LeafFailure(TdxStatus.OPERAND_INVALID, OperandId.RCX);
            }
            target.walkToLeaf(gpa);
            target.requireState();
            // All checks passed; nothing below may fail.
            long hpa = target.td.tdr().withKey(target.pagePa());
            lp.reg(R8, lp.module.memory.read(hpa, 8));
            access.at(hpa);
        }
    }
}
