package cloister.tdx.seamcall;

import static cloister.tdx.core.LpState.R8;
import static cloister.tdx.core.LpState.RCX;
import static cloister.tdx.core.LpState.RDX;

import cloister.spec.tdx.OperandId;
import cloister.spec.tdx.SeamcallLeaf;
import cloister.spec.tdx.SeptState;
import cloister.spec.tdx.TdxStatus;
import cloister.tdx.core.LeafFailure;
import cloister.tdx.core.LpState;
import cloister.tdx.core.SeptEntry;
import cloister.tdx.core.SeptTarget;

/// Memory of a debug TD seen by the host: TDH.MEM.RD, TDH.MEM.WR. [TDX-ABI "TDH.MEM.RD"]
public final class HostMemory {
    private HostMemory() {
    }

    public static void read(LpState lp, int version) throws LeafFailure {
        access(lp, SeamcallLeaf.MEM_RD, 0);
    }

    public static void write(LpState lp, int version) throws LeafFailure {
        access(lp, SeamcallLeaf.MEM_WR, lp.reg(R8));
    }

    private static void access(LpState lp, SeamcallLeaf leaf, long value) throws LeafFailure {
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
            if (!SeptState.of(target.entry).allows(leaf)) {
                throw target.fail(TdxStatus.EPT_ENTRY_STATE_INCORRECT);
            }
            long hpa = target.td.tdr().withKey(SeptEntry.leafPa(target.entry, gpa, target.level));
            lp.reg(R8, lp.module.memory.read(hpa, 8));
            if (leaf == SeamcallLeaf.MEM_WR) {
                lp.module.memory.write(hpa, 8, value);
            }
        }
    }
}
