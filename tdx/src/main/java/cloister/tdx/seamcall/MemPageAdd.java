package cloister.tdx.seamcall;

import static cloister.tdx.core.LpState.R8;
import static cloister.tdx.core.LpState.R9;
import static cloister.tdx.core.LpState.RCX;
import static cloister.tdx.core.LpState.RDX;

import cloister.memory.PhysicalMemory;
import cloister.spec.tdx.OperandId;
import cloister.spec.tdx.SeamcallLeaf;
import cloister.spec.tdx.SeptState;
import cloister.spec.tdx.TdxStatus;
import cloister.tdx.core.Gpa;
import cloister.tdx.core.LeafFailure;
import cloister.tdx.core.LockMode;
import cloister.tdx.core.LpState;
import cloister.tdx.core.PageType;
import cloister.tdx.core.Sept;
import cloister.tdx.core.SeptEntry;
import cloister.tdx.core.SeptTarget;
import cloister.tdx.core.TdAccess;

/// TDH.MEM.PAGE.ADD, leaf 2: a measured page of a TD that is being built. The exclusive TDR lock covers the Secure EPT.
/// [TDX-ABI "TDH.MEM.PAGE.ADD"]
final class MemPageAdd implements HostLeaf {
    @Override public void call(LpState lp, int version) throws LeafFailure {
        var module = lp.module;
        long info = lp.reg(RCX);
        long tdrPa = lp.reg(RDX);
        long sourceHpa = lp.reg(R9);
        lp.reg(RCX, 0);
        lp.reg(RDX, 0);
        try (var tdrPage = module.lockTdr(lp, tdrPa, LockMode.EXCLUSIVE, OperandId.RDX);
                var td = TdAccess.open(lp, module.tdr(tdrPage.pa()), LockMode.NONE, SeamcallLeaf.MEM_PAGE_ADD)) {
            var slot = freeEntry(lp, td, info);
            module.requireShared(sourceHpa, PhysicalMemory.FRAME_SIZE, OperandId.R9);
            try (var page = module.lockFree(lp, lp.reg(R8), OperandId.R8)) {
                // All checks passed; nothing below may fail.
                module.copyPage(sourceHpa, td.tdr().withKey(page.pa()));
                slot.write(SeptEntry.leaf(SeptEntry.RWX, page.pa(), SeptState.MAPPED));
                module.measurement(tdrPage.pa()).addPage(Gpa.gpa(info));
                td.tdr().addChildren(1);
                page.entry().assign(PageType.REG, tdrPage.pa());
                page.entry().bepoch(0);
            }
        }
    }

    private static Sept.Slot freeEntry(LpState lp, TdAccess td, long info) throws LeafFailure {
        var tdcs = td.tdcs();
        long gpa = Gpa.gpa(info);
        if (!Gpa.isPageInfo(info, SeptTarget.PT, SeptTarget.PT) || !Gpa.isValid(gpa, tdcs, true)) {
            throw new LeafFailure(TdxStatus.OPERAND_INVALID, OperandId.RCX);
        }
        var slot = td.sept().walk(tdcs.eptp(), gpa, SeptTarget.PT);
        boolean found = slot.level() == SeptTarget.PT;
        if (!found || !SeptState.of(slot.value()).allows(SeamcallLeaf.MEM_PAGE_ADD)) {
            lp.reportEntry(slot.value(), slot.level());
            throw new LeafFailure(found ? TdxStatus.EPT_ENTRY_STATE_INCORRECT : TdxStatus.EPT_WALK_FAILED, OperandId.RCX);
        }
        return slot;
    }
}
