package cloister.tdx.seamcall;

import static cloister.tdx.core.LpState.R8;
import static cloister.tdx.core.LpState.RCX;
import static cloister.tdx.core.LpState.RDX;

import cloister.spec.tdx.OperandId;
import cloister.spec.tdx.SeamcallLeaf;
import cloister.spec.tdx.SeptState;
import cloister.spec.tdx.TdxStatus;
import cloister.tdx.core.L2SeptEntry;
import cloister.tdx.core.LeafFailure;
import cloister.tdx.core.LockMode;
import cloister.tdx.core.LpState;
import cloister.tdx.core.SeptEntry;
import cloister.tdx.core.SeptTarget;
import cloister.tdx.core.Tdcs;

/// TDH.MEM.SEPT.RD, leaf 25; of a debug TD also how L2 VMs may use the page. [TDX-ABI "TDH.MEM.SEPT.RD"]
final class MemSeptRd implements HostLeaf {
    private static final long READ_L2_ATTRIBUTES = 1;

    @Override public void call(LpState lp, int version) throws LeafFailure {
        long info = lp.reg(RCX);
        long operand = lp.reg(RDX);
        boolean readL2 = (operand & READ_L2_ATTRIBUTES) != 0;
        lp.reg(RCX, 0);
        lp.reg(RDX, 0);
        try (var target = SeptTarget.openTd(lp, SeamcallLeaf.MEM_SEPT_RD, operand & ~READ_L2_ATTRIBUTES)) {
            if (readL2 && !target.td.tdcs().debug()) {
                throw new LeafFailure(TdxStatus.OPERAND_INVALID, OperandId.RDX);
            }
            target.walk(info, SeptTarget.PT, SeptTarget.ROOT, LockMode.SHARED);
            if (readL2) {
                lp.reg(R8, l2Attributes(target));
            }
            lp.reportEntry(target.entry, target.level);
        }
    }

    private static long l2Attributes(SeptTarget target) {
        long result = 0;
        for (int vm = 1; vm <= Tdcs.MAX_L2_VMS; vm++) {
            if (!SeptEntry.isFree(target.entry) && target.isAliased(vm)) {
                int attributes = L2SeptEntry.attributes(target.l2(vm).value(), SeptState.of(target.entry).anyBlockedw());
                result |= (long) attributes << (16 * vm);
            }
        }
        return result;
    }
}
