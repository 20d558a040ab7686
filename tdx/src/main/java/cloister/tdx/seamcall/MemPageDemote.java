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
import cloister.tdx.core.LockedPages;
import cloister.tdx.core.LpState;
import cloister.tdx.core.ModuleState;
import cloister.tdx.core.PageType;
import cloister.tdx.core.Pamt;
import cloister.tdx.core.Sept;
import cloister.tdx.core.SeptEntry;
import cloister.tdx.core.SeptTarget;
import cloister.tdx.core.Tdcs;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;

/// TDH.MEM.PAGE.DEMOTE, leaf 15: one large page becomes 512. [TDX-ABI "TDH.MEM.PAGE.DEMOTE"]
final class MemPageDemote implements HostLeaf {
    private static final int VMS = Tdcs.MAX_L2_VMS + 1;
    private static final int ENTRIES = 512;
    /// In RDX: L2 tables only where the page is mapped in L2.
    private static final long SPARSE_L2 = 1;
    /// In an output: the page is not in use.
    private static final long NOT_USED = 1L << 63;

    @Override public void call(LpState lp, int version) throws LeafFailure {
        long[] pages = {lp.reg(R8), lp.reg(R9), lp.reg(R10), lp.reg(R11)};
        long info = lp.reg(RCX);
        long operand = lp.reg(RDX);
        lp.reg(RCX, 0);
        lp.reg(RDX, 0);
        if ((operand & ~SPARSE_L2 & ~SeptEntry.HPA) != 0) {
            throw new LeafFailure(TdxStatus.OPERAND_INVALID, OperandId.RDX);
        }
        try (var target = SeptTarget.open(lp, SeamcallLeaf.MEM_PAGE_DEMOTE, info, operand & SeptEntry.HPA, SeptTarget.PD,
                SeptTarget.PDPT, LockMode.SHARED); var split = new Split(lp, target, pages)) {
            target.requireState();
            target.entry = SeptEntry.withoutPendingCount(target.entry, target.level);
            target.requireTracked(target.mapped());
            split.lockTables((operand & SPARSE_L2) != 0);
            split.fillTables(info, operand);
            lp.module.pamt.demote(lp, target.pagePa(), target.level, OperandId.RCX);
            // All checks passed; nothing below may fail.
            split.commit();
        }
        lp.reg(R9, pages[1]);
        lp.reg(R10, pages[2]);
        lp.reg(R11, pages[3]);
    }

    /// The new tables of one call. Until it commits they are filled, but nobody's.
    private static final class Split implements AutoCloseable {
        private final LpState lp;
        private final SeptTarget target;
        private final long[] pages;
        private final LockedPages tables = new LockedPages();
        private final Sept.Slot[] l2 = new Sept.Slot[VMS];

        /// @param pages R8 to R11; a page that stays unused is marked in it
        Split(LpState lp, SeptTarget target, long[] pages) {
            this.lp = lp;
            this.target = target;
            this.pages = pages;
        }

        private long tablePa(int vm) {
            return pages[vm] & ~NOT_USED;
        }

        void lockTables(boolean sparse) throws LeafFailure {
            tables.add(0, lp.module.lockFree(lp, pages[0], OperandId.R8));
            for (int vm = 1; vm <= target.td.tdcs().numL2Vms(); vm++) {
                if (pages[vm] == ModuleState.NULL_PA) {
                    if (target.isAliased(vm)) {
                        throw new LeafFailure(TdxStatus.L2_SEPT_PAGE_NOT_PROVIDED, OperandId.R8 + vm);
                    }
                } else if (!sparse || target.isAliased(vm)) {
                    tables.add(vm, lp.module.lockFree(lp, tablePa(vm), OperandId.R8 + vm));
                } else {
                    pages[vm] |= NOT_USED;
                }
            }
        }

        void fillTables(long info, long operand) throws LeafFailure {
            fill(pages[0], SeptEntry.unblocked(target.entry) & ~SeptEntry.LOCK);
            for (int vm = 1; vm < VMS; vm++) {
                if (tables.has(vm)) {
                    requireNoInterrupt(info, operand);
                    fillL2(vm);
                }
            }
            requireNoInterrupt(info, operand);
        }

        /// Nothing has changed yet: the VMM repeats the call after the interrupt.
        private void requireNoInterrupt(long info, long operand) throws LeafFailure {
            if (lp.hostInterruptPending()) {
                lp.reg(RCX, info);
                lp.reg(RDX, operand);
                throw new LeafFailure(TdxStatus.INTERRUPTED_RESTARTABLE);
            }
        }

        private void fillL2(int vm) throws LeafFailure {
            l2[vm] = target.walkL2(vm);
            if (l2[vm].level() != target.level) {
                throw target.failL2(TdxStatus.L2_SEPT_WALK_FAILED, vm, l2[vm]);
            }
            if (!target.isAliased(vm)) {
                lp.module.fillPage(target.td.tdr().withKey(tablePa(vm)), SeptEntry.L2_INIT);
                return;
            }
            // L2 has one blocked state, which a pending page keeps.
            long entry = l2[vm].value();
            fill(tablePa(vm), SeptState.of(target.entry).anyPending() ? entry : L2SeptEntry.unblocked(entry));
        }

        /// Fills a table with entries like `entry` for the parts of the page.
        private void fill(long tablePa, long entry) {
            long pagePa = target.pagePa();
            long partBytes = Pamt.bytes(target.level - 1);
            var content = ByteBuffer.allocate(ENTRIES * 8).order(ByteOrder.LITTLE_ENDIAN);
            for (int i = 0; i < ENTRIES; i++) {
                content.putLong((entry & ~SeptEntry.HPA) | (pagePa + i * partBytes));
            }
            lp.module.memory.movdir64b(target.td.tdr().withKey(tablePa), content.array(), 0,
                    ENTRIES * 8 / PhysicalMemory.LINE_SIZE);
        }

        void commit() {
            target.slot.write(SeptEntry.nonLeaf(pages[0]) | SeptEntry.LOCK);
            for (int vm = 0; vm < VMS; vm++) {
                if (!tables.has(vm)) {
                    continue;
                }
                if (vm > 0) {
                    l2[vm].write(L2SeptEntry.nonLeaf(tablePa(vm)));
                    target.slot.write(SeptEntry.withAlias(target.slot.read(), vm));
                }
                tables.entry(vm).assign(PageType.EPT, target.tdrPage.pa());
                target.td.tdr().addChildren(1);
            }
        }

        @Override public void close() {
            tables.close();
        }
    }
}
