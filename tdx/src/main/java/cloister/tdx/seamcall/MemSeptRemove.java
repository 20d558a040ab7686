package cloister.tdx.seamcall;

import static cloister.tdx.core.LpState.R8;
import static cloister.tdx.core.LpState.RCX;
import static cloister.tdx.core.LpState.RDX;

import cloister.spec.tdx.OperandId;
import cloister.spec.tdx.SeamcallLeaf;
import cloister.spec.tdx.TdxStatus;
import cloister.tdx.core.LeafFailure;
import cloister.tdx.core.LockMode;
import cloister.tdx.core.LockedPages;
import cloister.tdx.core.LpState;
import cloister.tdx.core.Sept;
import cloister.tdx.core.SeptEntry;
import cloister.tdx.core.SeptTarget;
import cloister.tdx.core.Tdcs;

/// TDH.MEM.SEPT.REMOVE, leaf 30: an empty table of the L1 tree, with those of L2 trees for the same range.
/// [TDX-ABI "TDH.MEM.SEPT.REMOVE"]
final class MemSeptRemove implements HostLeaf {
    private static final int VMS = Tdcs.MAX_L2_VMS + 1;
    private static final int ENTRIES = 512;

    @Override public void call(LpState lp, int version) throws LeafFailure {
        long info = lp.reg(RCX);
        long tdrPa = lp.reg(RDX);
        boolean reportL2 = FreedTables.outputs(lp, version);
        try (var target = SeptTarget.open(lp, SeamcallLeaf.MEM_SEPT_REMOVE, info, tdrPa, SeptTarget.PD, SeptTarget.ROOT,
                LockMode.EXCLUSIVE); var tables = new LockedPages()) {
            target.requireState();
            tables.lockInUse(lp, 0, SeptEntry.pa(target.entry), OperandId.RCX);
            target.requireTracked(tables.entry(0));
            requireEmpty(lp, target);
            var l2 = new Sept.Slot[VMS];
            for (int vm = 1; vm < VMS; vm++) {
                if (target.isAliased(vm)) {
                    l2[vm] = target.l2(vm);
                    tables.lockInUse(lp, vm, SeptEntry.pa(l2[vm].value()), OperandId.RCX);
                }
            }
            // All checks passed; nothing below may fail.
            for (int vm = VMS - 1; vm > 0; vm--) {
                if (tables.has(vm)) {
                    l2[vm].write(SeptEntry.L2_INIT);
                    FreedTables.release(target, tables, vm);
                    if (reportL2) {
                        lp.reg(R8 + vm, SeptEntry.pa(l2[vm].value()));
                    }
                }
            }
            target.replace(SeptEntry.INIT);
            FreedTables.release(target, tables, 0);
            lp.reg(RCX, SeptEntry.pa(target.entry));
        }
    }

    private static void requireEmpty(LpState lp, SeptTarget target) throws LeafFailure {
        long table = target.td.tdr().withKey(SeptEntry.pa(target.entry));
        for (int i = 0; i < ENTRIES; i++) {
            if (!SeptEntry.isFree(lp.module.memory.read(table + 8L * i, 8))) {
                throw target.fail(TdxStatus.EPT_PAGE_NOT_FREE);
            }
        }
    }
}
