package cloister.tdx.core;

import cloister.spec.tdx.OperandId;
import cloister.spec.tdx.SeamcallLeaf;
import cloister.spec.tdx.TdxStatus;

/// The Secure EPT entry that a host-side memory function acts on, with everything locked on the way: TDR, operation state,
/// tree and entry. Failures report the entry in RCX and RDX as the module does.
public final class SeptTarget implements AutoCloseable {
    private final LpState lp;
    public final LockedPage tdrPage;
    public final TdAccess td;
    public long gpa;
    public int level;
    public Sept sept;
    public Sept.Slot slot;
    /// The entry, read under its lock.
    public long entry;
    private Sept.TreeLock tree;
    private Sept.EntryLock lock;

    private SeptTarget(LpState lp, LockedPage tdrPage, TdAccess td) {
        this.lp = lp;
        this.tdrPage = tdrPage;
        this.td = td;
    }

    /// Opens the entry named by RCX `info` of the TD `tdrPa`.
    ///
    /// @param maxLevel -1: the root's level
    public static SeptTarget open(LpState lp, SeamcallLeaf leaf, long info, long tdrPa, int minLevel, int maxLevel, LockMode treeMode)
            throws LeafFailure {
        var target = openTd(lp, leaf, tdrPa);
        try {
            target.walk(info, minLevel, maxLevel, treeMode);
            return target;
        } catch (LeafFailure e) {
            target.close();
            throw e;
        }
    }

    public static SeptTarget openTd(LpState lp, SeamcallLeaf leaf, long tdrPa) throws LeafFailure {
        var page = lp.module.lockTdr(lp, tdrPa, LockMode.SHARED, OperandId.RDX);
        try {
            return new SeptTarget(lp, page, TdAccess.open(lp, lp.module.tdr(page.pa()), LockMode.SHARED, leaf));
        } catch (LeafFailure e) {
            page.close();
            throw e;
        }
    }

    public void walk(long info, int minLevel, int maxLevel, LockMode treeMode) throws LeafFailure {
        var tdcs = td.tdcs();
        if (!Gpa.isPageInfo(info, minLevel, maxLevel < 0 ? tdcs.rootLevel() : maxLevel)) {
            throw new LeafFailure(TdxStatus.OPERAND_INVALID, OperandId.RCX);
        }
        gpa = Gpa.gpa(info);
        level = Gpa.level(info);
        if (!Gpa.isValid(gpa, tdcs, true)) {
            throw new LeafFailure(TdxStatus.OPERAND_INVALID, OperandId.RCX);
        }
        tree = Sept.lockTree(lp, tdcs, treeMode);
        sept = td.sept();
        slot = sept.walk(tdcs.eptp(), gpa, level);
        if (slot.level() != level) {
            lp.reportEntry(slot.value(), slot.level());
            throw new LeafFailure(TdxStatus.EPT_WALK_FAILED, OperandId.RCX);
        }
        lockSlot();
    }

    /// Finds and locks the leaf that maps a private GPA, at whatever level.
    public void walkToLeaf(long address) throws LeafFailure {
        var tdcs = td.tdcs();
        gpa = address;
        tree = Sept.lockTree(lp, tdcs, LockMode.SHARED);
        if (!Gpa.isValid(gpa, tdcs, true)) {
            throw new LeafFailure(TdxStatus.OPERAND_INVALID, OperandId.RCX);
        }
        sept = td.sept();
        slot = sept.walk(tdcs.eptp(), gpa, 0);
        level = slot.level();
        if (!SeptEntry.isLeaf(slot.value()) || !SeptEntry.isPresent(slot.value())) {
            lp.reportEntry(slot.value(), level);
            throw new LeafFailure(TdxStatus.EPT_ENTRY_NOT_PRESENT, OperandId.RCX);
        }
        lockSlot();
    }

    private void lockSlot() throws LeafFailure {
        lock = Sept.lockEntry(lp, slot);
        if (lock == null) {
            lp.reportEntry(slot.value(), level);
            throw new LeafFailure(TdxStatus.OPERAND_BUSY, OperandId.RCX);
        }
        entry = slot.read();
    }

    /// A failure that reports the entry.
    public LeafFailure fail(TdxStatus status) {
        lp.reportEntry(entry, level);
        return new LeafFailure(status, OperandId.RCX);
    }

    /// Replaces the entry and unlocks it.
    public void replace(long value) {
        lock.replace(value);
    }

    /// The entry of an L2 VM's tree for the same GPA and level; it exists because the L1 entry says so.
    public Sept.Slot l2(int vm) {
        var found = sept.walk(td.tdcs().septp(td.tdr(), vm), gpa, level);
        if (found.level() != level) {
            throw new ModuleHalt("an L2 Secure EPT lacks an aliased entry");
        }
        return found;
    }

    /// The VMs whose L2 tree maps the entry as well.
    public boolean isAliased(int vm) {
        return vm <= td.tdcs().numL2Vms() && SeptEntry.isAliased(entry, vm);
    }

    /// Whether the change must wait until no processor holds old translations.
    public boolean needsTracking() {
        return sept != null && cloister.spec.tdx.SeptState.of(entry).needsTlbTracking()
                && td.tdcs().opState().needsTlbTracking();
    }

    @Override public void close() {
        if (lock != null) {
            lock.close();
        }
        if (tree != null) {
            tree.close();
        }
        td.close();
        tdrPage.close();
    }
}
