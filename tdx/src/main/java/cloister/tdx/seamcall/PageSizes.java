package cloister.tdx.seamcall;

import static cloister.tdx.core.LpState.R10;
import static cloister.tdx.core.LpState.R11;
import static cloister.tdx.core.LpState.R8;
import static cloister.tdx.core.LpState.R9;
import static cloister.tdx.core.LpState.RCX;
import static cloister.tdx.core.LpState.RDX;

import cloister.memory.PhysicalMemory;
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
import cloister.tdx.core.Sept;
import cloister.tdx.core.SeptEntry;
import cloister.tdx.core.SeptTarget;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;

/// Where a TD page lies and how large its mapping is: TDH.MEM.PAGE.PROMOTE, .DEMOTE and .RELOCATE. [TDX-BASE "Secure EPT
/// Page Promotion and Demotion"]
public final class PageSizes {
    private static final int PD = 1;
    private static final int PDPT = 2;
    private static final int VMS = 4;
    private static final int ENTRIES = 512;
    private static final long NOT_USED = 1L << 63;
    private static final long SPARSE_L2 = 1;

    private final LpState lp;
    private final long info;
    private final long operand;
    private final LockedPage[] locked = new LockedPage[VMS];
    private final Sept.Slot[] l2 = new Sept.Slot[VMS];

    private PageSizes(LpState lp) {
        this.lp = lp;
        this.info = lp.reg(RCX);
        this.operand = lp.reg(RDX);
        lp.reg(RCX, 0);
        lp.reg(RDX, 0);
    }

    public static void promote(LpState lp, int version) throws LeafFailure {
        var call = new PageSizes(lp);
        if (version > 0) {
            lp.reg(R9, ModuleState.NULL_PA);
            lp.reg(R10, ModuleState.NULL_PA);
            lp.reg(R11, ModuleState.NULL_PA);
        }
        if (version > 1) {
            throw new LeafFailure(TdxStatus.OPERAND_INVALID, OperandId.RAX);
        }
        call.promote(version > 0);
    }

    public static void demote(LpState lp, int version) throws LeafFailure {
        long[] pages = {lp.reg(R8), lp.reg(R9), lp.reg(R10), lp.reg(R11)};
        new PageSizes(lp).demote(pages);
    }

    public static void relocate(LpState lp, int version) throws LeafFailure {
        new PageSizes(lp).relocate(lp.reg(R8));
    }

    private void unlockPages() {
        for (var page : locked) {
            if (page != null) {
                page.close();
            }
        }
    }

    /// Gives up when an interrupt waits; nothing has changed yet.
    private void checkInterrupt() throws LeafFailure {
        if (lp.hostInterruptPending()) {
            lp.reg(RCX, info);
            lp.reg(RDX, operand);
            throw new LeafFailure(TdxStatus.INTERRUPTED_RESTARTABLE);
        }
    }

    private void promote(boolean reportL2) throws LeafFailure {
        int lockedEntries = 0;
        long table = 0;
        try (var target = SeptTarget.open(lp, SeamcallLeaf.MEM_PAGE_PROMOTE, info, operand, PD, PDPT, LockMode.SHARED)) {
            if (!SeptState.of(target.entry).allows(SeamcallLeaf.MEM_PAGE_PROMOTE)) {
                throw target.fail(TdxStatus.EPT_ENTRY_STATE_INCORRECT);
            }
            try {
                lockTable(target.entry, 0);
                SeptLeaves.requireTracked(target, locked[0].entry());
                table = target.td.tdr().withKey(SeptEntry.pa(target.entry));
                long first = 0;
                for (; lockedEntries < ENTRIES; lockedEntries++) {
                    long child = lockChild(target, slot(table, lockedEntries));
                    if (lockedEntries == 0) {
                        first = child;
                    }
                    if (!isMergeable(child, first, lockedEntries, target.level)) {
                        lockedEntries++;
                        throw target.fail(TdxStatus.EPT_INVALID_PROMOTE_CONDITIONS);
                    }
                }
                for (int vm = 1; vm < VMS; vm++) {
                    if (target.isAliased(vm)) {
                        checkInterrupt();
                        checkL2Table(target, vm);
                    }
                }
                checkInterrupt();
                lp.module.pamt.promote(lp, SeptEntry.leafPa(first, 0, target.level - 1), target.level, OperandId.RCX);
                lockedEntries = 0;
                merge(target, table, reportL2);
            } finally {
                for (int i = 0; i < lockedEntries; i++) {
                    var child = slot(table, i);
                    child.write(child.read() & ~SeptEntry.LOCK);
                }
                unlockPages();
            }
        }
    }

    private void lockTable(long entry, int vm) throws LeafFailure {
        locked[vm] = lp.module.pamt.lockImplicit(lp, SeptEntry.pa(entry), Pamt.SIZE_4K, LockMode.EXCLUSIVE, OperandId.RCX);
    }

    private Sept.Slot slot(long table, int index) {
        return new Sept.Slot(lp.module.memory, table + 8L * index, 0, 0);
    }

    private long lockChild(SeptTarget target, Sept.Slot child) throws LeafFailure {
        if (Sept.lockEntry(lp, child) == null) {
            throw target.fail(TdxStatus.OPERAND_BUSY);
        }
        return SeptEntry.withoutPendingCount(child.read(), target.level - 1);
    }

    /// Whether an entry continues the first one, which is an aligned mapped or pending page.
    private static boolean isMergeable(long entry, long first, int index, int level) {
        if (index > 0) {
            return entry == first + index * Pamt.bytes(level - 1);
        }
        var state = SeptState.of(entry);
        return (SeptEntry.leafPa(entry, 0, level - 1) & Pamt.bytes(level) - 1) == 0
                && (state == SeptState.MAPPED || state == SeptState.PENDING);
    }

    /// The entries of an L2 table must be all free or leaves that differ in the address only.
    private void checkL2Table(SeptTarget target, int vm) throws LeafFailure {
        l2[vm] = target.l2(vm);
        lockTable(l2[vm].value(), vm);
        long table = target.td.tdr().withKey(SeptEntry.pa(l2[vm].value()));
        long first = slot(table, 0).read();
        boolean mergeable = L2SeptEntry.isFree(first) || SeptEntry.isLeaf(first)
                && (SeptEntry.leafPa(first, 0, target.level - 1) & Pamt.bytes(target.level) - 1) == 0;
        for (int i = 1; i < ENTRIES && mergeable; i++) {
            mergeable = (slot(table, i).read() & ~SeptEntry.HPA) == (first & ~SeptEntry.HPA);
        }
        if (!mergeable) {
            throw target.fail(TdxStatus.EPT_INVALID_PROMOTE_CONDITIONS);
        }
    }

    private void merge(SeptTarget target, long table, boolean reportL2) {
        target.replace(slot(table, 0).read());
        releaseTable(target, 0);
        lp.reg(RCX, SeptEntry.pa(target.entry));
        for (int vm = 1; vm < VMS; vm++) {
            if (l2[vm] != null) {
                long pa = SeptEntry.pa(l2[vm].value());
                l2[vm].write(slot(target.td.tdr().withKey(pa), 0).read());
                releaseTable(target, vm);
                if (reportL2) {
                    lp.reg(R8 + vm, pa);
                }
            }
        }
    }

    private void releaseTable(SeptTarget target, int vm) {
        target.td.tdr().addChildren(-1);
        locked[vm].entry().type(PageType.NDA);
    }

    private void demote(long[] pages) throws LeafFailure {
        if ((operand & ~SPARSE_L2 & ~SeptEntry.HPA) != 0) {
            throw new LeafFailure(TdxStatus.OPERAND_INVALID, OperandId.RDX);
        }
        boolean sparse = (operand & SPARSE_L2) != 0;
        try (var target = SeptTarget.open(lp, SeamcallLeaf.MEM_PAGE_DEMOTE, info, operand & SeptEntry.HPA, PD, PDPT,
                LockMode.SHARED)) {
            if (!SeptState.of(target.entry).allows(SeamcallLeaf.MEM_PAGE_DEMOTE)) {
                throw target.fail(TdxStatus.EPT_ENTRY_STATE_INCORRECT);
            }
            target.entry = SeptEntry.withoutPendingCount(target.entry, target.level);
            long pa = SeptEntry.leafPa(target.entry, target.gpa, target.level);
            SeptLeaves.requireTracked(target, lp.module.pamt.implicit(pa, target.level));
            lockNewTables(target, pages, sparse);
            long entry = SeptEntry.unblocked(target.entry) & ~SeptEntry.LOCK;
            fillTable(target, pages[0], pa, entry);
            for (int vm = 1; vm < VMS; vm++) {
                if (locked[vm] != null) {
                    checkInterrupt();
                    prepareL2(target, vm, pages[vm], pa);
                }
            }
            checkInterrupt();
            lp.module.pamt.demote(lp, pa, target.level, OperandId.RCX);
            split(target, pages);
        } finally {
            unlockPages();
        }
        lp.reg(R9, pages[1]);
        lp.reg(R10, pages[2]);
        lp.reg(R11, pages[3]);
    }

    private void lockNewTables(SeptTarget target, long[] pages, boolean sparse) throws LeafFailure {
        locked[0] = lp.module.lockFree(lp, pages[0], OperandId.R8);
        for (int vm = 1; vm <= target.td.tdcs().numL2Vms(); vm++) {
            if (pages[vm] == ModuleState.NULL_PA) {
                if (target.isAliased(vm)) {
                    throw new LeafFailure(TdxStatus.L2_SEPT_PAGE_NOT_PROVIDED, OperandId.R8 + vm);
                }
            } else if (!sparse || target.isAliased(vm)) {
                locked[vm] = lp.module.lockFree(lp, pages[vm] & ~NOT_USED, OperandId.R8 + vm);
            } else {
                pages[vm] |= NOT_USED;
            }
        }
    }

    /// Fills a new table with entries like `entry` for the parts of the page.
    private void fillTable(SeptTarget target, long tablePa, long pa, long entry) {
        long table = target.td.tdr().withKey(tablePa & ~NOT_USED);
        var content = ByteBuffer.allocate(ENTRIES * 8).order(ByteOrder.LITTLE_ENDIAN);
        for (int i = 0; i < ENTRIES; i++) {
            content.putLong(entry & ~SeptEntry.HPA | pa + i * Pamt.bytes(target.level - 1));
        }
        lp.module.memory.movdir64b(table, content.array(), 0, ENTRIES * 8 / PhysicalMemory.LINE_SIZE);
    }

    private void prepareL2(SeptTarget target, int vm, long tablePa, long pa) throws LeafFailure {
        var tdcs = target.td.tdcs();
        l2[vm] = target.sept.walk(tdcs.septp(target.td.tdr(), vm), target.gpa, target.level);
        if (l2[vm].level() != target.level) {
            throw SeptLeaves.l2Failure(lp, TdxStatus.L2_SEPT_WALK_FAILED, vm, l2[vm], tdcs);
        }
        if (target.isAliased(vm)) {
            long entry = l2[vm].value();
            fillTable(target, tablePa, pa, SeptState.of(target.entry).anyPending() ? entry : L2SeptEntry.unblocked(entry));
        } else {
            lp.module.fillPage(target.td.tdr().withKey(tablePa & ~NOT_USED), SeptEntry.L2_INIT);
        }
    }

    private void split(SeptTarget target, long[] pages) {
        target.slot.write(SeptEntry.nonLeaf(pages[0]) | SeptEntry.LOCK);
        for (int vm = 0; vm < VMS; vm++) {
            if (locked[vm] == null) {
                continue;
            }
            locked[vm].entry().assign(PageType.EPT, target.tdrPage.pa());
            target.td.tdr().addChildren(1);
            if (vm > 0) {
                l2[vm].write(L2SeptEntry.nonLeaf(pages[vm] & ~NOT_USED));
                target.slot.write(SeptEntry.withAlias(target.slot.read(), vm));
            }
        }
    }

    private void relocate(long targetPa) throws LeafFailure {
        try (var target = SeptTarget.open(lp, SeamcallLeaf.MEM_PAGE_RELOCATE, info, operand, 0, 0, LockMode.SHARED)) {
            var state = SeptState.of(target.entry);
            if (!SeptEntry.isLeaf(target.entry) || !state.allows(SeamcallLeaf.MEM_PAGE_RELOCATE)) {
                throw target.fail(TdxStatus.EPT_ENTRY_STATE_INCORRECT);
            }
            long sourcePa = SeptEntry.pa(target.entry);
            if (sourcePa == (targetPa & (1L << 52) - 1)) {
                throw new LeafFailure(TdxStatus.OPERAND_INVALID, OperandId.R8);
            }
            locked[0] = lp.module.pamt.lockImplicit(lp, sourcePa, Pamt.SIZE_4K, LockMode.EXCLUSIVE, OperandId.RCX);
            SeptLeaves.requireTracked(target, locked[0].entry());
            locked[1] = lp.module.lockFree(lp, targetPa, OperandId.R8);
            if (!state.anyPending()) {
                PageLeaves.copyPage(lp.module.memory, target.td.tdr().withKey(sourcePa), target.td.tdr().withKey(targetPa));
            }
            locked[0].entry().type(PageType.NDA);
            locked[1].entry().assign(PageType.REG, target.tdrPage.pa());
            locked[1].entry().bepoch(0);
            for (int vm = 1; vm < VMS; vm++) {
                if (target.isAliased(vm)) {
                    var alias = target.l2(vm);
                    long moved = alias.value() & ~SeptEntry.HPA | targetPa;
                    alias.write(state.anyPending() ? moved : L2SeptEntry.unblocked(moved));
                }
            }
            target.replace(SeptEntry.unblocked(target.entry & ~SeptEntry.HPA | targetPa));
            lp.reg(RCX, sourcePa);
        } finally {
            unlockPages();
        }
    }
}
