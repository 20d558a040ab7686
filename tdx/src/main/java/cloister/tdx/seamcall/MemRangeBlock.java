package cloister.tdx.seamcall;

import static cloister.tdx.core.LpState.RCX;
import static cloister.tdx.core.LpState.RDX;

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

/// TDH.MEM.RANGE.BLOCK, leaf 7: no new translations of a page, or of all that a table maps. [TDX-ABI "TDH.MEM.RANGE.BLOCK"]
final class MemRangeBlock implements HostLeaf {
    @Override public void call(LpState lp, int version) throws LeafFailure {
        long info = lp.reg(RCX);
        long tdrPa = lp.reg(RDX);
        lp.reg(RCX, 0);
        lp.reg(RDX, 0);
        try (var target = SeptTarget.open(lp, SeamcallLeaf.MEM_RANGE_BLOCK, info, tdrPa, SeptTarget.PT, SeptTarget.ROOT,
                LockMode.EXCLUSIVE)) {
            var state = SeptState.of(target.entry);
            if (state.anyBlocked()) {
                throw target.fail(TdxStatus.GPA_RANGE_ALREADY_BLOCKED);
            }
            target.requireState();
            // All checks passed. L1 goes first: an L2 VM that faults meanwhile is then known to fault because of the VMM.
            target.slot.write(SeptEntry.blocked(target.entry, target.level));
            for (int vm = 1; vm <= Tdcs.MAX_L2_VMS; vm++) {
                if (target.isAliased(vm)) {
                    var l2 = target.l2(vm);
                    l2.write(L2SeptEntry.blocked(l2.value(), state.anyBlockedw()));
                }
            }
            target.mapped().bepoch(target.td.tdcs().epoch());
        }
    }
}
