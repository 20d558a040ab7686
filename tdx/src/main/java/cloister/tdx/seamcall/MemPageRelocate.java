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
import cloister.tdx.core.LockedPage;
import cloister.tdx.core.LpState;
import cloister.tdx.core.ModuleState;
import cloister.tdx.core.PageType;
import cloister.tdx.core.Pamt;
import cloister.tdx.core.SeptEntry;
import cloister.tdx.core.SeptTarget;
import cloister.tdx.core.Tdcs;

/// TDH.MEM.PAGE.RELOCATE, leaf 5: a 4 KiB page moves to another physical page and is unblocked. [TDX-ABI "TDH.MEM.PAGE.RELOCATE"]
final class MemPageRelocate implements HostLeaf {
    private static final long HPA_BITS = (1L << ModuleState.MAX_PA) - 1;

    @Override public void call(LpState lp, int version) throws LeafFailure {
        long info = lp.reg(RCX);
        long tdrPa = lp.reg(RDX);
        long toPa = lp.reg(R8);
        lp.reg(RCX, 0);
        lp.reg(RDX, 0);
        try (var target = SeptTarget.open(lp, SeamcallLeaf.MEM_PAGE_RELOCATE, info, tdrPa, SeptTarget.PT, SeptTarget.PT,
                LockMode.SHARED)) {
            target.requireLeafState();
            long fromPa = target.pagePa();
            if (fromPa == (toPa & HPA_BITS)) { // bits beyond the address width are checked later
                throw new LeafFailure(TdxStatus.OPERAND_INVALID, OperandId.R8);
            }
            try (var from = lp.module.pamt.lockImplicit(lp, fromPa, Pamt.SIZE_4K, LockMode.EXCLUSIVE, OperandId.RCX)) {
                target.requireTracked(from.entry());
                try (var to = lp.module.lockFree(lp, toPa, OperandId.R8)) {
                    // All checks passed; nothing below may fail.
                    move(lp, target, from, to);
                }
            }
            lp.reg(RCX, fromPa);
        }
    }

    private static void move(LpState lp, SeptTarget target, LockedPage from, LockedPage to) {
        boolean pending = SeptState.of(target.entry).anyPending();
        var tdr = target.td.tdr();
        if (!pending) {
            lp.module.copyPage(tdr.withKey(from.pa()), tdr.withKey(to.pa()));
        }
        from.entry().type(PageType.NDA);
        to.entry().assign(PageType.REG, target.tdrPage.pa());
        to.entry().bepoch(0);
        for (int vm = 1; vm <= Tdcs.MAX_L2_VMS; vm++) {
            if (target.isAliased(vm)) {
                var l2 = target.l2(vm);
                long moved = (l2.value() & ~SeptEntry.HPA) | to.pa();
                l2.write(pending ? moved : L2SeptEntry.unblocked(moved));
            }
        }
        target.replace(SeptEntry.unblocked((target.entry & ~SeptEntry.HPA) | to.pa()));
    }
}
