package cloister.tdx.seamcall;

import static cloister.tdx.core.LpState.RCX;
import static cloister.tdx.core.LpState.RDX;

import cloister.spec.tdx.OperandId;
import cloister.spec.tdx.SeamcallLeaf;
import cloister.tdx.core.LeafFailure;
import cloister.tdx.core.LockMode;
import cloister.tdx.core.LpState;
import cloister.tdx.core.PageType;
import cloister.tdx.core.SeptEntry;
import cloister.tdx.core.SeptTarget;
import cloister.tdx.core.Tdcs;

/// TDH.MEM.PAGE.REMOVE, leaf 29: a page of any size, with its L2 mappings. [TDX-ABI "TDH.MEM.PAGE.REMOVE"]
final class MemPageRemove implements HostLeaf {
    @Override public void call(LpState lp, int version) throws LeafFailure {
        long info = lp.reg(RCX);
        long tdrPa = lp.reg(RDX);
        lp.reg(RCX, 0);
        lp.reg(RDX, 0);
        try (var target = SeptTarget.open(lp, SeamcallLeaf.MEM_PAGE_REMOVE, info, tdrPa, SeptTarget.PT, SeptTarget.PDPT,
                LockMode.SHARED)) {
            target.requireLeafState();
            target.entry = SeptEntry.withoutPendingCount(target.entry, target.level);
            long pagePa = target.pagePa();
            try (var page = lp.module.pamt.lockImplicit(lp, pagePa, target.level, LockMode.EXCLUSIVE, OperandId.RCX)) {
                target.requireTracked(page.entry());
                // All checks passed; nothing below may fail.
                for (int vm = 1; vm <= Tdcs.MAX_L2_VMS; vm++) {
                    if (target.isAliased(vm)) {
                        target.l2(vm).write(SeptEntry.L2_INIT);
                    }
                }
                var tdcs = target.td.tdcs();
                target.replace(tdcs.opState().importInProgress() ? SeptEntry.removed(tdcs.u32(Tdcs.MIG_EPOCH)) : SeptEntry.INIT);
                target.td.tdr().addChildren(-(1L << (9 * target.level)));
                page.entry().type(PageType.NDA);
                lp.reg(RCX, pagePa);
            }
        }
    }
}
