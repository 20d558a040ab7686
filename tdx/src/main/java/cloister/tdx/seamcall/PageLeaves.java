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
import cloister.tdx.core.Measurement;
import cloister.tdx.core.PageType;
import cloister.tdx.core.SeptEntry;
import cloister.tdx.core.SeptTarget;
import cloister.tdx.core.TdAccess;

/// TD pages: TDH.MEM.PAGE.*. [TDX-BASE "Physical Memory
/// Management"]
public final class PageLeaves {
    private static final int LINE = PhysicalMemory.LINE_SIZE;
    private static final long PAGE = PhysicalMemory.FRAME_SIZE;

    private PageLeaves() {
    }

    public static void add(LpState lp, int version) throws LeafFailure {
        var module = lp.module;
        long info = lp.reg(RCX);
        long tdrPa = lp.reg(RDX);
        lp.reg(RCX, 0);
        lp.reg(RDX, 0);
        try (var tdrPage = module.lockTdr(lp, tdrPa, LockMode.EXCLUSIVE, OperandId.RDX);
                var td = TdAccess.open(lp, module.tdr(tdrPage.pa()), LockMode.NONE, SeamcallLeaf.MEM_PAGE_ADD)) {
            var tdcs = td.tdcs();
            long gpa = Gpa.gpa(info);
            if (!Gpa.isPageInfo(info, 0, 0) || !Gpa.isValid(gpa, tdcs, true)) {
                throw new LeafFailure(TdxStatus.OPERAND_INVALID, OperandId.RCX);
            }
            var slot = td.sept().walk(tdcs.eptp(), gpa, 0);
            if (slot.level() != 0) {
                lp.reportEntry(slot.value(), slot.level());
                throw new LeafFailure(TdxStatus.EPT_WALK_FAILED, OperandId.RCX);
            }
            if (!SeptState.of(slot.value()).allows(SeamcallLeaf.MEM_PAGE_ADD)) {
                lp.reportEntry(slot.value(), 0);
                throw new LeafFailure(TdxStatus.EPT_ENTRY_STATE_INCORRECT, OperandId.RCX);
            }
            module.requireShared(lp.reg(R9), PAGE, OperandId.R9);
            try (var page = module.lockFree(lp, lp.reg(R8), OperandId.R8)) {
                copyPage(module.memory, lp.reg(R9), td.tdr().withKey(page.pa()));
                slot.write(SeptEntry.leaf(SeptEntry.RWX, page.pa(), SeptState.MAPPED));
                Measurement.extend(module.tdDigest(tdrPage.pa()), "MEM.PAGE.ADD", gpa);
                td.tdr().addChildren(1);
                page.entry().assign(PageType.REG, tdrPage.pa());
                page.entry().bepoch(0);
            }
        }
    }

    public static void copyPage(PhysicalMemory memory, long from, long to) {
        var content = new byte[(int) PAGE];
        memory.read(from, content, 0, content.length);
        memory.movdir64b(to, content, 0, content.length / LINE);
    }

    public static void aug(LpState lp, int version) throws LeafFailure {
        var module = lp.module;
        long info = lp.reg(RCX);
        long tdrPa = lp.reg(RDX);
        lp.reg(RCX, 0);
        lp.reg(RDX, 0);
        try (var target = SeptTarget.open(lp, SeamcallLeaf.MEM_PAGE_AUG, info, tdrPa, 0, 1, LockMode.SHARED)) {
            if (!SeptState.of(target.entry).allows(SeamcallLeaf.MEM_PAGE_AUG)) {
                throw target.fail(TdxStatus.EPT_ENTRY_STATE_INCORRECT);
            }
            try (var page = module.pamt.lockFree(lp, lp.reg(R8), target.level, OperandId.R8)) {
                target.replace(SeptEntry.leaf(0, page.pa(), SeptState.PENDING));
                target.td.tdr().addChildren(1L << 9 * target.level);
                page.entry().assign(PageType.REG, target.tdrPage.pa());
                page.entry().bepoch(0);
            }
        }
    }

    public static void remove(LpState lp, int version) throws LeafFailure {
        var module = lp.module;
        long info = lp.reg(RCX);
        long tdrPa = lp.reg(RDX);
        lp.reg(RCX, 0);
        lp.reg(RDX, 0);
        try (var target = SeptTarget.open(lp, SeamcallLeaf.MEM_PAGE_REMOVE, info, tdrPa, 0, 2, LockMode.SHARED)) {
            var state = SeptState.of(target.entry);
            if (!SeptEntry.isLeaf(target.entry) || !state.allows(SeamcallLeaf.MEM_PAGE_REMOVE)) {
                throw target.fail(TdxStatus.EPT_ENTRY_STATE_INCORRECT);
            }
            target.entry = SeptEntry.withoutPendingCount(target.entry, target.level);
            long pa = SeptEntry.leafPa(target.entry, target.gpa, target.level);
            try (var page = module.pamt.lockImplicit(lp, pa, target.level, LockMode.EXCLUSIVE, OperandId.RCX)) {
                SeptLeaves.requireTracked(target, page.entry());
                for (int vm = 1; vm <= target.td.tdcs().numL2Vms(); vm++) {
                    if (target.isAliased(vm)) {
                        target.l2(vm).write(SeptEntry.L2_INIT);
                    }
                }
                target.replace(target.td.tdcs().opState().importInProgress()
                        ? SeptState.REMOVED.bits() | SeptEntry.SUPPRESS_VE : SeptEntry.INIT);
                target.td.tdr().addChildren(-(1L << 9 * target.level));
                page.entry().type(PageType.NDA);
                lp.reg(RCX, pa);
            }
        }
    }
}
