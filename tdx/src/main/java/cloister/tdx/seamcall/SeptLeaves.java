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
import cloister.tdx.core.PamtEntry;
import cloister.tdx.core.Sept;
import cloister.tdx.core.SeptEntry;
import cloister.tdx.core.SeptTarget;
import cloister.tdx.core.Sharex;
import cloister.tdx.core.TdAccess;
import cloister.tdx.core.Tdcs;

/// Secure EPT pages and ranges: TDH.MEM.SEPT.*, TDH.MEM.RANGE.*. [TDX-BASE "Secure EPT"]
public final class SeptLeaves {
    private static final int PD = 1;
    private static final int PT = 0;
    private static final int ROOT = -1;
    private static final int VMS = 4;
    private static final long ALLOW_EXISTING = 1;
    private static final long NOT_USED = 1L << 63;
    private static final long ENTRIES = 512;
    private static final long READ_L2_ATTRIBUTES = 1;

    private SeptLeaves() {
    }

    private static void clear(LpState lp) {
        lp.reg(RCX, 0);
        lp.reg(RDX, 0);
    }

    public static void rd(LpState lp, int version) throws LeafFailure {
        long info = lp.reg(RCX);
        long operand = lp.reg(RDX);
        boolean attributes = (operand & READ_L2_ATTRIBUTES) != 0;
        clear(lp);
        try (var target = SeptTarget.openTd(lp, SeamcallLeaf.MEM_SEPT_RD, operand & ~READ_L2_ATTRIBUTES)) {
            if (attributes && !target.td.tdcs().debug()) {
                throw new LeafFailure(TdxStatus.OPERAND_INVALID, OperandId.RDX);
            }
            target.walk(info, PT, ROOT, LockMode.SHARED);
            if (attributes) {
                lp.reg(R8, l2Attributes(target));
            }
            lp.reportEntry(target.entry, target.level);
        }
    }

    private static long l2Attributes(SeptTarget target) {
        long result = 0;
        for (int vm = 1; vm <= target.td.tdcs().numL2Vms(); vm++) {
            if (!SeptEntry.isFree(target.entry) && target.isAliased(vm)) {
                result |= (long) L2SeptEntry.attributes(target.l2(vm).value(),
                        SeptState.of(target.entry).anyBlockedw()) << 16 * vm;
            }
        }
        return result;
    }

    public static void add(LpState lp, int version) throws LeafFailure {
        long info = lp.reg(RCX);
        long operand = lp.reg(RDX);
        long[] pages = {lp.reg(R8), version > 0 ? lp.reg(R9) : 0, version > 0 ? lp.reg(R10) : 0,
            version > 0 ? lp.reg(R11) : 0};
        clear(lp);
        if (version > 1) {
            throw new LeafFailure(TdxStatus.OPERAND_INVALID, OperandId.RAX);
        }
        for (int vm = 0; vm < VMS; vm++) {
            pages[vm] = pages[vm] == ModuleState.NULL_PA ? pages[vm] : pages[vm] & ~NOT_USED;
        }
        long[] flagged = pages.clone();
        try {
            new SeptAdd(lp, version, pages, flagged).run(info, operand);
        } finally {
            for (int vm = 0; version > 0 && vm < VMS; vm++) {
                lp.reg(R8 + vm, flagged[vm]);
            }
        }
    }

    /// TDH.MEM.SEPT.ADD: a page for the L1 tree and, in version 1, pages for L2 trees.
    private static final class SeptAdd {
        private final LpState lp;
        private final int version;
        private final long[] pages;
        private final long[] flagged;
        private final LockedPage[] locked = new LockedPage[VMS];
        private final Sept.Slot[] l2 = new Sept.Slot[VMS];

        SeptAdd(LpState lp, int version, long[] pages, long[] flagged) {
            this.lp = lp;
            this.version = version;
            this.pages = pages;
            this.flagged = flagged;
        }

        void run(long info, long operand) throws LeafFailure {
            if ((operand & ~ALLOW_EXISTING & ~SeptEntry.HPA) != 0) {
                throw new LeafFailure(TdxStatus.OPERAND_INVALID, OperandId.RDX);
            }
            boolean existing = (operand & ALLOW_EXISTING) != 0;
            try (var target = SeptTarget.open(lp, SeamcallLeaf.MEM_SEPT_ADD, info, operand & SeptEntry.HPA, PD, ROOT,
                    LockMode.SHARED)) {
                if (!SeptState.of(target.entry).allows(SeamcallLeaf.MEM_SEPT_ADD)) {
                    throw target.fail(TdxStatus.EPT_ENTRY_STATE_INCORRECT);
                }
                l1Page(target, existing);
                if (version > 0) {
                    l2Pages(target, existing);
                }
                addAll(target, info, operand);
            } finally {
                for (var page : locked) {
                    if (page != null) {
                        page.close();
                    }
                }
            }
        }

        private void l1Page(SeptTarget target, boolean existing) throws LeafFailure {
            if (pages[0] == ModuleState.NULL_PA) {
                if (version == 0) {
                    throw new LeafFailure(TdxStatus.OPERAND_INVALID, OperandId.R8);
                }
                if (SeptState.of(target.entry) != SeptState.NL_MAPPED) {
                    throw target.fail(TdxStatus.EPT_ENTRY_STATE_INCORRECT);
                }
            } else if (SeptEntry.isFree(target.entry)) {
                locked[0] = lp.module.lockFree(lp, pages[0], OperandId.R8);
            } else if (existing) {
                flagged[0] |= NOT_USED;
            } else {
                throw target.fail(TdxStatus.EPT_ENTRY_STATE_INCORRECT);
            }
        }

        private void l2Pages(SeptTarget target, boolean existing) throws LeafFailure {
            var tdcs = target.td.tdcs();
            for (int vm = 1; vm < VMS; vm++) {
                if (pages[vm] == ModuleState.NULL_PA) {
                    continue;
                }
                if (vm > tdcs.numL2Vms()) {
                    throw new LeafFailure(TdxStatus.OPERAND_INVALID, OperandId.R8 + vm);
                }
                l2[vm] = target.sept.walk(tdcs.septp(target.td.tdr(), vm), target.gpa, target.level);
                if (l2[vm].level() != target.level) {
                    throw l2Failure(lp, TdxStatus.L2_SEPT_WALK_FAILED, vm, l2[vm], tdcs);
                }
                if (L2SeptEntry.isFree(l2[vm].value())) {
                    locked[vm] = lp.module.lockFree(lp, pages[vm], OperandId.R8 + vm);
                } else if (existing) {
                    flagged[vm] |= NOT_USED;
                } else {
                    throw l2Failure(lp, TdxStatus.L2_SEPT_ENTRY_NOT_FREE, vm, l2[vm], tdcs);
                }
            }
        }

        private void addAll(SeptTarget target, long info, long operand) throws LeafFailure {
            boolean added = false;
            long entry = target.entry;
            if ((flagged[0] & NOT_USED) == 0) {
                newPage(target, 0, SeptEntry.INIT);
                entry = SeptEntry.nonLeaf(pages[0]);
                target.slot.write(entry | SeptEntry.LOCK);
                flagged[0] = ModuleState.NULL_PA;
                added = true;
            }
            for (int vm = 1; version > 0 && vm < VMS; vm++) {
                if ((flagged[vm] & NOT_USED) != 0) {
                    continue;
                }
                if (added && lp.hostInterruptPending()) {
                    lp.reg(RCX, info);
                    lp.reg(RDX, operand);
                    throw new LeafFailure(TdxStatus.INTERRUPTED_RESUMABLE);
                }
                newPage(target, vm, SeptEntry.L2_INIT);
                target.slot.write(SeptEntry.withAlias(target.slot.read(), vm));
                l2[vm].write(L2SeptEntry.nonLeaf(pages[vm]));
                flagged[vm] = ModuleState.NULL_PA;
                added = true;
            }
        }

        private void newPage(SeptTarget target, int vm, long init) {
            lp.module.fillPage(target.td.tdr().withKey(pages[vm]), init);
            locked[vm].entry().assign(PageType.EPT, target.tdrPage.pa());
            locked[vm].entry().bepoch(0);
            target.td.tdr().addChildren(1);
        }
    }

    /// A failure that reports an entry of an L2 tree.
    public static LeafFailure l2Failure(LpState lp, TdxStatus status, int vm, Sept.Slot slot, Tdcs tdcs) {
        lp.reg(RCX, L2SeptEntry.architectural(slot.value(), tdcs.debug()));
        lp.reg(RDX, slot.level() | (long) L2SeptEntry.architecturalState(slot.value()) << 8 | (long) vm << 16);
        return new LeafFailure(status, vm << 16 | slot.level());
    }

    public static void remove(LpState lp, int version) throws LeafFailure {
        long info = lp.reg(RCX);
        long tdrPa = lp.reg(RDX);
        clear(lp);
        if (version > 0) {
            lp.reg(R9, ModuleState.NULL_PA);
            lp.reg(R10, ModuleState.NULL_PA);
            lp.reg(R11, ModuleState.NULL_PA);
        }
        if (version > 1) {
            throw new LeafFailure(TdxStatus.OPERAND_INVALID, OperandId.RAX);
        }
        var locked = new LockedPage[VMS];
        try (var target = SeptTarget.open(lp, SeamcallLeaf.MEM_SEPT_REMOVE, info, tdrPa, PD, ROOT, LockMode.EXCLUSIVE)) {
            if (!SeptState.of(target.entry).allows(SeamcallLeaf.MEM_SEPT_REMOVE)) {
                throw target.fail(TdxStatus.EPT_ENTRY_STATE_INCORRECT);
            }
            locked[0] = lp.module.pamt.lockImplicit(lp, SeptEntry.pa(target.entry), Pamt.SIZE_4K, LockMode.EXCLUSIVE,
                    OperandId.RCX);
            requireTracked(target, locked[0].entry());
            long table = target.td.tdr().withKey(SeptEntry.pa(target.entry));
            for (int i = 0; i < ENTRIES; i++) {
                if (!SeptEntry.isFree(lp.module.memory.read(table + 8L * i, 8))) {
                    throw target.fail(TdxStatus.EPT_PAGE_NOT_FREE);
                }
            }
            var l2 = new Sept.Slot[VMS];
            for (int vm = 1; vm < VMS; vm++) {
                if (target.isAliased(vm)) {
                    l2[vm] = target.l2(vm);
                    locked[vm] = lp.module.pamt.lockImplicit(lp, SeptEntry.pa(l2[vm].value()), Pamt.SIZE_4K,
                            LockMode.EXCLUSIVE, OperandId.RCX);
                }
            }
            for (int vm = VMS - 1; vm > 0; vm--) {
                if (l2[vm] != null) {
                    l2[vm].write(SeptEntry.L2_INIT);
                    release(target, locked[vm]);
                    if (version > 0) {
                        lp.reg(R8 + vm, SeptEntry.pa(l2[vm].value()));
                    }
                }
            }
            target.replace(SeptEntry.INIT);
            release(target, locked[0]);
            lp.reg(RCX, SeptEntry.pa(target.entry));
        } finally {
            for (var page : locked) {
                if (page != null) {
                    page.close();
                }
            }
        }
    }

    private static void release(SeptTarget target, LockedPage page) {
        target.td.tdr().addChildren(-1);
        page.entry().type(PageType.NDA);
    }

    /// Fails unless the entry is blocked and no processor may still use it.
    public static void requireTracked(SeptTarget target, PamtEntry page) throws LeafFailure {
        if (target.needsTracking()) {
            if (!SeptState.of(target.entry).anyBlocked()) {
                throw target.fail(TdxStatus.GPA_RANGE_NOT_BLOCKED);
            }
            if (!target.td.tdcs().tracked(page.bepoch())) {
                throw new LeafFailure(TdxStatus.TLB_TRACKING_NOT_DONE, OperandId.RCX);
            }
        }
    }

    public static void block(LpState lp, int version) throws LeafFailure {
        long info = lp.reg(RCX);
        long tdrPa = lp.reg(RDX);
        clear(lp);
        try (var target = SeptTarget.open(lp, SeamcallLeaf.MEM_RANGE_BLOCK, info, tdrPa, PT, ROOT, LockMode.EXCLUSIVE)) {
            var state = SeptState.of(target.entry);
            if (!state.allows(SeamcallLeaf.MEM_RANGE_BLOCK)) {
                throw target.fail(state.anyBlocked() ? TdxStatus.GPA_RANGE_ALREADY_BLOCKED
                        : TdxStatus.EPT_ENTRY_STATE_INCORRECT);
            }
            boolean leaf = SeptEntry.isLeaf(target.entry);
            for (int vm = 1; vm < VMS; vm++) {
                if (target.isAliased(vm)) {
                    var l2 = target.l2(vm);
                    l2.write(L2SeptEntry.blocked(l2.value(), state.anyBlockedw()));
                }
            }
            var page = lp.module.pamt.implicit(pageOf(target, leaf), leaf ? target.level : Pamt.SIZE_4K);
            page.bepoch(target.td.tdcs().epoch());
            target.replace(SeptEntry.blocked(target.entry, target.level));
        }
    }

    /// The physical page behind the entry; a pending entry's acceptance count is not part of it.
    private static long pageOf(SeptTarget target, boolean leaf) {
        return leaf ? SeptEntry.pa(target.entry) & -Pamt.bytes(target.level) : SeptEntry.pa(target.entry);
    }

    public static void unblock(LpState lp, int version) throws LeafFailure {
        long info = lp.reg(RCX);
        long tdrPa = lp.reg(RDX);
        clear(lp);
        try (var target = SeptTarget.open(lp, SeamcallLeaf.MEM_RANGE_UNBLOCK, info, tdrPa, PT, ROOT, LockMode.EXCLUSIVE)) {
            var state = SeptState.of(target.entry);
            if (!state.allows(SeamcallLeaf.MEM_RANGE_UNBLOCK)) {
                throw target.fail(TdxStatus.EPT_ENTRY_STATE_INCORRECT);
            }
            boolean leaf = SeptEntry.isLeaf(target.entry);
            if (target.needsTracking()) {
                var page = lp.module.pamt.implicit(pageOf(target, leaf), leaf ? target.level : Pamt.SIZE_4K);
                if (!target.td.tdcs().tracked(page.bepoch())) {
                    throw new LeafFailure(TdxStatus.TLB_TRACKING_NOT_DONE, OperandId.RCX);
                }
            }
            for (int vm = 1; !state.anyPending() && vm < VMS; vm++) {
                if (target.isAliased(vm)) {
                    var l2 = target.l2(vm);
                    l2.write(L2SeptEntry.unblocked(l2.value()));
                }
            }
            target.replace(SeptEntry.unblocked(target.entry));
        }
    }

    public static void track(LpState lp, int version) throws LeafFailure {
        var module = lp.module;
        try (var page = module.lockTdr(lp, lp.reg(RCX), LockMode.SHARED, OperandId.RCX);
                var td = TdAccess.open(lp, module.tdr(page.pa()), LockMode.SHARED, SeamcallLeaf.MEM_TRACK)) {
            var tdcs = td.tdcs();
            var lock = tdcs.lock(Tdcs.EPOCH_LOCK);
            if (!Sharex.tryExclusive(lp, lock)) {
                throw new LeafFailure(TdxStatus.OPERAND_BUSY, OperandId.TD_EPOCH);
            }
            try {
                if (tdcs.refcount(tdcs.epoch() + 1) != 0) {
                    throw new LeafFailure(TdxStatus.PREVIOUS_TLB_EPOCH_BUSY);
                }
                tdcs.u64(Tdcs.TD_EPOCH, tdcs.epoch() + 1);
            } finally {
                Sharex.releaseExclusive(lock);
            }
        }
    }

    /// KeyID-free address of a page.
    public static long plain(long hpa) {
        return PhysicalMemory.pa(hpa);
    }
}
