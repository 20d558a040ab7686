package cloister.tdx.seamcall;

import static cloister.tdx.core.LpState.RCX;
import static cloister.tdx.core.LpState.RDX;

import cloister.spec.tdx.SeamcallLeaf;
import cloister.spec.tdx.SeptState;
import cloister.tdx.core.L2SeptEntry;
import cloister.tdx.core.LeafFailure;
import cloister.tdx.core.LockMode;
import cloister.tdx.core.LpState;
import cloister.tdx.core.SeptEntry;
import cloister.tdx.core.SeptTarget;
import cloister.tdx.core.Tdcs;

/// TDH.MEM.RANGE.UNBLOCK, leaf 39. [TDX-ABI "TDH.MEM.RANGE.UNBLOCK"]
final class MemRangeUnblock implements HostLeaf {
    @Override public void call(LpState lp, int version) throws LeafFailure {
        long info = lp.reg(RCX);
        long tdrPa = lp.reg(RDX);
        lp.reg(RCX, 0);
        lp.reg(RDX, 0);
        try (var target = SeptTarget.open(lp, SeamcallLeaf.MEM_RANGE_UNBLOCK, info, tdrPa, SeptTarget.PT, SeptTarget.ROOT,
                LockMode.EXCLUSIVE)) {
            target.requireState();
            target.requireTrackedBlock();
            // All checks passed. L2 goes first, for the reason for which TDH.MEM.RANGE.BLOCK leaves it to the end.
            boolean pending = SeptState.of(target.entry).anyPending(); // L2 entries of a pending page stay blocked
            for (int vm = 1; !pending && vm <= Tdcs.MAX_L2_VMS; vm++) {
                if (target.isAliased(vm)) {
                    var l2 = target.l2(vm);
                    l2.write(L2SeptEntry.unblocked(l2.value()));
                }
            }
            target.replace(SeptEntry.unblocked(target.entry));
        }
    }
}
