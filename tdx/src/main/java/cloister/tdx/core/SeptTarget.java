package cloister.tdx.core;

import cloister.spec.tdx.OperandId;
import cloister.spec.tdx.SeamcallLeaf;
import cloister.spec.tdx.SeptState;
import cloister.spec.tdx.TdxStatus;

/// The Secure EPT entry that a host-side memory function acts on, with everything locked on the way: TDR, operation state,
/// tree and entry. Failures report the entry in RCX and RDX as the module does.
public final class SeptTarget implements AutoCloseable {
    /// Levels of entries, by what they map or point to.
    public static final int PT = 0;
    public static final int PD = 1;
    public static final int PDPT = 2;
    /// As the highest level of a function: that of the TD's root.
    public static final int ROOT = -1;

    private final LpState lp;
    private final SeamcallLeaf leaf;
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

    private SeptTarget(LpState lp, SeamcallLeaf leaf, LockedPage tdrPage, TdAccess td) {
        this.lp = lp;
        this.leaf = leaf;
        this.tdrPage = tdrPage;
        this.td = td;
    }

    /// Opens the entry named by RCX `info` of the TD `tdrPa`.
    ///
    /// @param maxLevel [#PT] to [#PDPT], or [#ROOT]
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

    /// Opens the TD only; one of the walks finds the entry.
    public static SeptTarget openTd(LpState lp, SeamcallLeaf leaf, long tdrPa) throws LeafFailure {
        var page = lp.module.lockTdr(lp, tdrPa, LockMode.SHARED, OperandId.RDX);
        try {
            return new SeptTarget(lp, leaf, page, TdAccess.open(lp, lp.module.tdr(page.pa()), LockMode.SHARED, leaf));
        } catch (LeafFailure e) {
            page.close();
            throw e;
        }
    }

    /// Finds and locks the entry named by RCX `info`.
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

    /// @throws LeafFailure when the function may not act on an entry in this state
    public void requireState() throws LeafFailure {
        if (!SeptState.of(entry).allows(leaf)) {
            throw fail(TdxStatus.EPT_ENTRY_STATE_INCORRECT);
        }
    }

    /// [#requireState], for functions on pages.
    public void requireLeafState() throws LeafFailure {
        if (!SeptEntry.isLeaf(entry)) {
            throw fail(TdxStatus.EPT_ENTRY_STATE_INCORRECT);
        }
        requireState();
    }

    /// Fails unless the entry is blocked and no processor may still use it; a TD that cannot run needs neither.
    ///
    /// @param page what the entry maps or points to
    public void requireTracked(PamtEntry page) throws LeafFailure {
        if (needsTracking()) {
            if (!SeptState.of(entry).anyBlocked()) {
                throw fail(TdxStatus.GPA_RANGE_NOT_BLOCKED);
            }
            requireTlbTracked(page);
        }
    }

    /// [#requireTracked] of an entry that is blocked.
    public void requireTrackedBlock() throws LeafFailure {
        if (needsTracking()) {
            requireTlbTracked(mapped());
        }
    }

    private boolean needsTracking() {
        return SeptState.of(entry).needsTlbTracking() && td.tdcs().opState().needsTlbTracking();
    }

    private void requireTlbTracked(PamtEntry page) throws LeafFailure {
        if (!td.tdcs().tracked(page.bepoch())) {
            throw new LeafFailure(TdxStatus.TLB_TRACKING_NOT_DONE, OperandId.RCX);
        }
    }

    /// The unlocked PAMT entry of the page that the entry maps or of the table that it points to.
    public PamtEntry mapped() {
        return SeptEntry.isLeaf(entry) ? lp.module.pamt.implicit(pagePa(), level)
                : lp.module.pamt.implicit(SeptEntry.pa(entry), Pamt.SIZE_4K);
    }

    /// The page that a leaf maps; the count of a page that is being accepted is not part of its address.
    public long pagePa() {
        return SeptEntry.leafPa(entry, gpa, level);
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

    /// A failure that reports an entry of the tree of VM `vm`.
    public LeafFailure failL2(TdxStatus status, int vm, Sept.Slot found) {
        lp.reportL2Entry(found.value(), found.level(), vm, td.tdcs().debug());
        return new LeafFailure(status, (vm << 16) | found.level());
    }

    /// Where the walk of the tree of VM `vm` for the same GPA and level ends, which is above that level when a table is missing.
    public Sept.Slot walkL2(int vm) {
        return sept.walk(td.tdcs().septp(td.tdr(), vm), gpa, level);
    }

    /// The entry of an L2 VM's tree for the same GPA and level; it exists because the L1 entry says so.
    public Sept.Slot l2(int vm) {
        var found = walkL2(vm);
        if (found.level() != level) {
            throw new ModuleHalt("an L2 Secure EPT lacks an aliased entry");
        }
        return found;
    }

    /// Whether the tree of L2 VM `vm` has an entry for the same range.
    public boolean isAliased(int vm) {
        return vm <= td.tdcs().numL2Vms() && SeptEntry.isAliased(entry, vm);
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
