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
import cloister.tdx.core.LockedPages;
import cloister.tdx.core.LpState;
import cloister.tdx.core.Pamt;
import cloister.tdx.core.Sept;
import cloister.tdx.core.SeptEntry;
import cloister.tdx.core.SeptTarget;
import cloister.tdx.core.Tdcs;

/// TDH.MEM.PAGE.PROMOTE, leaf 23: 512 pages that lie behind one another become one. [TDX-ABI "TDH.MEM.PAGE.PROMOTE"]
final class MemPagePromote implements HostLeaf {
    private static final int VMS = Tdcs.MAX_L2_VMS + 1;
    private static final int ENTRIES = 512;

    @Override public void call(LpState lp, int version) throws LeafFailure {
        long info = lp.reg(RCX);
        long tdrPa = lp.reg(RDX);
        boolean reportL2 = FreedTables.outputs(lp, version);
        try (var target = SeptTarget.open(lp, SeamcallLeaf.MEM_PAGE_PROMOTE, info, tdrPa, SeptTarget.PD, SeptTarget.PDPT,
                LockMode.SHARED); var tables = new LockedPages()) {
            target.requireState();
            tables.lockInUse(lp, 0, SeptEntry.pa(target.entry), OperandId.RCX);
            target.requireTracked(tables.entry(0));
            try (var children = new Children(lp, target)) {
                long first = children.lockAndCheck();
                var l2 = new Sept.Slot[VMS];
                for (int vm = 1; vm < VMS; vm++) {
                    if (target.isAliased(vm)) {
                        requireNoInterrupt(lp, info, tdrPa);
                        l2[vm] = target.l2(vm);
                        tables.lockInUse(lp, vm, SeptEntry.pa(l2[vm].value()), OperandId.RCX);
                        requireMergeableL2(lp, target, l2[vm].value());
                    }
                }
                requireNoInterrupt(lp, info, tdrPa);
                lp.module.pamt.promote(lp, SeptEntry.leafPa(first, 0, target.level - 1), target.level, OperandId.RCX);
                // All checks passed; nothing below may fail.
                children.forget();
                merge(lp, target, tables, l2, reportL2);
            }
        }
    }

    /// Nothing has changed yet: the VMM repeats the call after the interrupt.
    private static void requireNoInterrupt(LpState lp, long info, long tdrPa) throws LeafFailure {
        if (lp.hostInterruptPending()) {
            lp.reg(RCX, info);
            lp.reg(RDX, tdrPa);
            throw new LeafFailure(TdxStatus.INTERRUPTED_RESTARTABLE);
        }
    }

    /// The entries of an L2 table must be all free, or leaves that differ in the address only. That they map the pages of the L1
    /// table follows from that table.
    private static void requireMergeableL2(LpState lp, SeptTarget target, long entry) throws LeafFailure {
        long table = target.td.tdr().withKey(SeptEntry.pa(entry));
        long first = lp.module.memory.read(table, 8);
        boolean mergeable = L2SeptEntry.isFree(first)
                || (SeptEntry.isLeaf(first) && isAligned(SeptEntry.leafPa(first, 0, target.level - 1), target.level));
        for (int i = 1; i < ENTRIES && mergeable; i++) {
            mergeable = (lp.module.memory.read(table + 8L * i, 8) & ~SeptEntry.HPA) == (first & ~SeptEntry.HPA);
        }
        if (!mergeable) {
            throw target.fail(TdxStatus.EPT_INVALID_PROMOTE_CONDITIONS);
        }
    }

    private static boolean isAligned(long pa, int level) {
        return (pa & (Pamt.bytes(level) - 1)) == 0;
    }

    private static void merge(LpState lp, SeptTarget target, LockedPages tables, Sept.Slot[] l2, boolean reportL2) {
        var tdr = target.td.tdr();
        long tablePa = SeptEntry.pa(target.entry);
        target.replace(lp.module.memory.read(tdr.withKey(tablePa), 8));
        FreedTables.release(target, tables, 0);
        lp.reg(RCX, tablePa);
        for (int vm = 1; vm < VMS; vm++) {
            if (tables.has(vm)) {
                long l2TablePa = SeptEntry.pa(l2[vm].value());
                l2[vm].write(lp.module.memory.read(tdr.withKey(l2TablePa), 8));
                FreedTables.release(target, tables, vm);
                if (reportL2) {
                    lp.reg(R8 + vm, l2TablePa);
                }
            }
        }
    }

    /// The entries of the L1 table, which are locked one by one.
    private static final class Children implements AutoCloseable {
        private final LpState lp;
        private final SeptTarget target;
        private final long table;
        private int locked;

        Children(LpState lp, SeptTarget target) {
            this.lp = lp;
            this.target = target;
            this.table = target.td.tdr().withKey(SeptEntry.pa(target.entry));
        }

        private Sept.Slot slot(int index) {
            return new Sept.Slot(lp.module.memory, table + 8L * index, 0, 0);
        }

        /// @return the first entry
        long lockAndCheck() throws LeafFailure {
            int level = target.level - 1;
            long first = lock();
            var state = SeptState.of(first);
            if (!isAligned(SeptEntry.leafPa(first, 0, level), target.level)
                    || (state != SeptState.MAPPED && state != SeptState.PENDING)) {
                throw target.fail(TdxStatus.EPT_INVALID_PROMOTE_CONDITIONS);
            }
            while (locked < ENTRIES) {
                long expected = first + locked * Pamt.bytes(level);
                if (lock() != expected) {
                    throw target.fail(TdxStatus.EPT_INVALID_PROMOTE_CONDITIONS);
                }
            }
            return first;
        }

        private long lock() throws LeafFailure {
            var child = slot(locked);
            if (Sept.lockEntry(lp, child) == null) {
                throw target.fail(TdxStatus.OPERAND_BUSY);
            }
            locked++;
            return SeptEntry.withoutPendingCount(child.read(), target.level - 1);
        }

        /// The table is gone, and the entries with it.
        void forget() {
            locked = 0;
        }

        @Override public void close() {
            for (int i = 0; i < locked; i++) {
                var child = slot(i);
                child.write(child.read() & ~SeptEntry.LOCK);
            }
        }
    }
}
