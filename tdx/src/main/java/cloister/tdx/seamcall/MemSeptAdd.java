package cloister.tdx.seamcall;

import static cloister.tdx.core.LpState.R10;
import static cloister.tdx.core.LpState.R11;
import static cloister.tdx.core.LpState.R8;
import static cloister.tdx.core.LpState.R9;
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
import cloister.tdx.core.ModuleState;
import cloister.tdx.core.PageType;
import cloister.tdx.core.Sept;
import cloister.tdx.core.SeptEntry;
import cloister.tdx.core.SeptTarget;
import cloister.tdx.core.Tdcs;

/// TDH.MEM.SEPT.ADD, leaf 3: a table for the L1 tree and, in version 1, tables for L2 trees. [TDX-ABI "TDH.MEM.SEPT.ADD"]
final class MemSeptAdd implements HostLeaf {
    private static final int VMS = Tdcs.MAX_L2_VMS + 1;
    private static final int FIRST_VERSION_WITH_L2 = 1;
    private static final long ALLOW_EXISTING = 1;
    /// In an output: the page is not in use, because there was a table already.
    private static final long NOT_USED = 1L << 63;

    @Override public void call(LpState lp, int version) throws LeafFailure {
        long info = lp.reg(RCX);
        long operand = lp.reg(RDX);
        boolean withL2 = version >= FIRST_VERSION_WITH_L2;
        long[] pages = {lp.reg(R8), withL2 ? lp.reg(R9) : 0, withL2 ? lp.reg(R10) : 0, withL2 ? lp.reg(R11) : 0};
        lp.reg(RCX, 0);
        lp.reg(RDX, 0);
        if (version > FIRST_VERSION_WITH_L2) {
            throw new LeafFailure(TdxStatus.OPERAND_INVALID, OperandId.RAX);
        }
        for (int vm = 0; vm < VMS; vm++) {
            pages[vm] = pages[vm] == ModuleState.NULL_PA ? ModuleState.NULL_PA : pages[vm] & ~NOT_USED;
        }
        var addition = new Addition(lp, withL2, (operand & ALLOW_EXISTING) != 0, pages);
        try {
            addition.run(info, operand);
        } finally {
            for (int vm = 0; withL2 && vm < VMS; vm++) {
                lp.reg(R8 + vm, addition.results[vm]);
            }
        }
    }

    /// One call. What became of each page is in `results` at every end of it: unchanged, NULL_PA when added, [#NOT_USED].
    private static final class Addition {
        private final LpState lp;
        private final boolean withL2;
        private final boolean allowExisting;
        private final long[] pages;
        private final long[] results;
        private final LockedPages locked = new LockedPages();
        private final Sept.Slot[] l2 = new Sept.Slot[VMS];

        Addition(LpState lp, boolean withL2, boolean allowExisting, long[] pages) {
            this.lp = lp;
            this.withL2 = withL2;
            this.allowExisting = allowExisting;
            this.pages = pages;
            this.results = pages.clone();
        }

        void run(long info, long operand) throws LeafFailure {
            if ((operand & ~ALLOW_EXISTING & ~SeptEntry.HPA) != 0) {
                throw new LeafFailure(TdxStatus.OPERAND_INVALID, OperandId.RDX);
            }
            try (var target = SeptTarget.open(lp, SeamcallLeaf.MEM_SEPT_ADD, info, operand & SeptEntry.HPA, SeptTarget.PD,
                    SeptTarget.ROOT, LockMode.SHARED); locked) {
                target.requireState();
                checkL1(target);
                for (int vm = 1; withL2 && vm < VMS; vm++) {
                    if (pages[vm] != ModuleState.NULL_PA) {
                        checkL2(target, vm);
                    }
                }
                // All checks passed. An interrupt can end the call between two pages; those before it are added then.
                add(target, info, operand);
            }
        }

        private void checkL1(SeptTarget target) throws LeafFailure {
            if (pages[0] == ModuleState.NULL_PA) {
                if (!withL2) {
                    throw new LeafFailure(TdxStatus.OPERAND_INVALID, OperandId.R8);
                }
                if (SeptState.of(target.entry) != SeptState.NL_MAPPED) {
                    throw target.fail(TdxStatus.EPT_ENTRY_STATE_INCORRECT);
                }
            } else if (SeptEntry.isFree(target.entry)) {
                locked.add(0, lp.module.lockFree(lp, pages[0], OperandId.R8));
            } else if (allowExisting) {
                results[0] |= NOT_USED;
            } else {
                throw target.fail(TdxStatus.EPT_ENTRY_STATE_INCORRECT);
            }
        }

        private void checkL2(SeptTarget target, int vm) throws LeafFailure {
            if (vm > target.td.tdcs().numL2Vms()) {
                throw new LeafFailure(TdxStatus.OPERAND_INVALID, OperandId.R8 + vm);
            }
            l2[vm] = target.walkL2(vm);
            if (l2[vm].level() != target.level) {
                throw target.failL2(TdxStatus.L2_SEPT_WALK_FAILED, vm, l2[vm]);
            }
            if (L2SeptEntry.isFree(l2[vm].value())) {
                locked.add(vm, lp.module.lockFree(lp, pages[vm], OperandId.R8 + vm));
            } else if (allowExisting) {
                results[vm] |= NOT_USED;
            } else {
                throw target.failL2(TdxStatus.L2_SEPT_ENTRY_NOT_FREE, vm, l2[vm]);
            }
        }

        private void add(SeptTarget target, long info, long operand) throws LeafFailure {
            boolean added = false;
            if (locked.has(0)) {
                newTable(target, 0, SeptEntry.INIT);
                target.slot.write(SeptEntry.nonLeaf(pages[0]) | SeptEntry.LOCK);
                results[0] = ModuleState.NULL_PA;
                added = true;
            }
            for (int vm = 1; vm < VMS; vm++) {
                if (!locked.has(vm)) {
                    continue;
                }
                if (added && lp.hostInterruptPending()) {
                    lp.reg(RCX, info);
                    lp.reg(RDX, operand);
                    throw new LeafFailure(TdxStatus.INTERRUPTED_RESUMABLE);
                }
                newTable(target, vm, SeptEntry.L2_INIT);
                target.slot.write(SeptEntry.withAlias(target.slot.read(), vm));
                l2[vm].write(L2SeptEntry.nonLeaf(pages[vm]));
                results[vm] = ModuleState.NULL_PA;
                added = true;
            }
        }

        private void newTable(SeptTarget target, int vm, long init) {
            lp.module.fillPage(target.td.tdr().withKey(pages[vm]), init);
            locked.entry(vm).assign(PageType.EPT, target.tdrPage.pa());
            locked.entry(vm).bepoch(0);
            target.td.tdr().addChildren(1);
        }
    }
}
