package cloister.tdx.seamcall;

import static cloister.tdx.core.LpState.R8;
import static cloister.tdx.core.LpState.RCX;
import static cloister.tdx.core.LpState.RDX;

import cloister.spec.tdx.OperandId;
import cloister.spec.tdx.SeamcallLeaf;
import cloister.spec.tdx.SeptState;
import cloister.tdx.core.LeafFailure;
import cloister.tdx.core.LockMode;
import cloister.tdx.core.LpState;
import cloister.tdx.core.PageType;
import cloister.tdx.core.SeptEntry;
import cloister.tdx.core.SeptTarget;

/// TDH.MEM.PAGE.AUG, leaf 6: a 4 KiB or 2 MiB page that the guest must accept. [TDX-ABI "TDH.MEM.PAGE.AUG"]
final class MemPageAug implements HostLeaf {
    @Override public void call(LpState lp, int version) throws LeafFailure {
        long info = lp.reg(RCX);
        long tdrPa = lp.reg(RDX);
        lp.reg(RCX, 0);
        lp.reg(RDX, 0);
        try (var target = SeptTarget.open(lp, SeamcallLeaf.MEM_PAGE_AUG, info, tdrPa, SeptTarget.PT, SeptTarget.PD,
                LockMode.SHARED)) {
            target.requireState();
            try (var page = lp.module.pamt.lockFree(lp, lp.reg(R8), target.level, OperandId.R8)) {
                // All checks passed; nothing below may fail.
                target.td.tdr().addChildren(1L << (9 * target.level));
                page.entry().assign(PageType.REG, target.tdrPage.pa());
                page.entry().bepoch(0);
                // Last, for whoever sees the entry trusts the PAMT. The module has it first, and a race with TDH.MEM.PAGE.REMOVE.
                target.replace(SeptEntry.leaf(0, page.pa(), SeptState.PENDING));
            }
        }
    }
}
