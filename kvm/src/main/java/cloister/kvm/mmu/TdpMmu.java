package cloister.kvm.mmu;

import cloister.kvm.Defect;
import cloister.kvm.KvmException;
import cloister.kvm.KvmInspection;
import java.util.ArrayList;
import java.util.List;

/// The roots of two-dimensional paging of one VM, and how their entries change. [LINUX arch/x86/kvm/mmu/tdp_mmu.c]
///
/// Faults hold mmu_lock shared and change entries by compare-and-set; who unmaps what guests use holds it exclusively. An entry of a
/// mirror is frozen while the external tables follow.
final class TdpMmu {
    // Which roots an operation is about
    static final int DIRECT = 1;
    static final int MIRROR = 2;
    static final int INVALID = 4;
    static final int VALID = DIRECT | MIRROR;

    private final Mmu mmu;
    final PageTables tables;
    private final SpteMasks masks;
    private final List<MmuPage> roots = new ArrayList<>();

    TdpMmu(Mmu mmu, PageTables tables) {
        this.mmu = mmu;
        this.tables = tables;
        this.masks = mmu.masks();
    }

    // --- roots

    /// The valid root with `role`, made when there is none; the caller gets a reference. mmu_lock is held shared.
    ///
    /// @throws KvmException ENOMEM
    MmuPage root(int role) {
        for (var root : roots) {
            if (root.role == role) {
                root.rootCount++;
                return root;
            }
        }
        var root = tables.allocate(role, 0, null, 0);
        root.rootCount = 2; // the caller's, and the MMU's own until the root is invalidated
        roots.add(root);
        return root;
    }

    /// Gives a reference back; the last one frees the root, which is invalid then.
    void put(MmuPage root) {
        if (--root.rootCount == 0) {
            if (!root.isInvalid()) {
                throw new IllegalStateException("the last reference to a valid root was given back");
            }
            roots.remove(root);
            tables.free(root);
        }
    }

    /// How many roots there are, invalid ones included.
    int rootCount() {
        return roots.size();
    }

    /// Roots of `types` in an address space (-1: any), each with a reference that the caller gives back.
    List<MmuPage> references(int addressSpace, int types) {
        var found = new ArrayList<MmuPage>(roots.size());
        for (var root : roots) {
            if (matches(root, types) && (addressSpace < 0 || root.addressSpace() == addressSpace)) {
                root.rootCount++;
                found.add(root);
            }
        }
        return found;
    }

    private static boolean matches(MmuPage root, int types) {
        return (!root.isInvalid() || (types & INVALID) != 0) && (types & (root.isMirror() ? MIRROR : DIRECT)) != 0;
    }

    /// Makes the valid roots of `types` invalid: no vCPU takes them any more. mmu_lock is held exclusively, and the caller makes vCPUs
    /// that have one loaded drop it before the lock is released. [LINUX kvm_tdp_mmu_invalidate_roots]
    void invalidateRoots(int types) {
        for (var root : roots) {
            if (matches(root, types & ~INVALID)) {
                root.scheduledToZap = true;
                root.role = MmuRole.invalid(root.role);
            }
        }
    }

    /// Zaps the roots that [#invalidateRoots] left, and gives the MMU's references back. [LINUX kvm_tdp_mmu_zap_invalidated_roots]
    ///
    /// @param shared whether mmu_lock is held shared
    void zapInvalidatedRoots(boolean shared) {
        for (var root : references(-1, VALID | INVALID)) {
            if (root.scheduledToZap) {
                root.scheduledToZap = false;
                zapRoot(root, shared);
                put(root);
            }
            put(root);
        }
    }

    /// Zaps all direct roots, invalid ones too: the VMM's memory goes away as a whole. [LINUX kvm_tdp_mmu_zap_all]
    void zapAllDirect() {
        for (var root : references(-1, DIRECT | INVALID)) {
            zapRoot(root, false);
            put(root);
        }
    }

    private void zapRoot(MmuPage root, boolean shared) {
        tables.beginWalk();
        try {
            // The gigabytes first, so that others get mmu_lock in between.
            for (int level = 3; level <= root.level(); level += root.level() - 3) {
                zapEntries(root, level, shared);
            }
        } finally {
            tables.endWalk();
        }
    }

    private void zapEntries(MmuPage root, int level, boolean shared) {
        var at = new TdpIterator(tables).start(root, level, 0, Long.MAX_VALUE, 0);
        while (at.next()) {
            if (at.level > level) {
                continue;
            }
            while (Spte.isPresent(at.spte) && !set(at, Spte.NONPRESENT, shared)) {
                at.refresh();
            }
            if (mmu.giveWay(shared)) {
                at.restartAfterEntry();
            }
        }
    }

    // --- changing an entry

    /// Sets the entry at which an iterator stands.
    ///
    /// @return false when somebody else was faster, which only happens with mmu_lock held shared
    boolean set(TdpIterator at, long spte, boolean shared) {
        if (shared) {
            return setAtomic(at.table(), at.index, at.gfn, at.spte, spte) == ExternalPageTables.Result.DONE;
        }
        setExclusive(at.table(), at.index, at.gfn, at.spte, spte);
        return true;
    }

    /// Sets an entry with mmu_lock held exclusively. [LINUX tdp_mmu_set_spte]
    void setExclusive(MmuPage page, int index, long gfn, long read, long spte) {
        long old = read;
        if (Spte.isPresent(old) && Spte.isLeaf(old, page.level()) && masks.isVolatile(old)) {
            old = tables.exchange(page, index, spte);
        } else {
            tables.write(page, index, spte);
        }
        if (changed(page, gfn, old, spte, false) != ExternalPageTables.Result.DONE) {
            mmu.bug();
        }
    }

    /// Sets an entry with mmu_lock held shared. Of a mirror, it is frozen until the external tables have followed, and gets its old value
    /// back when they did not. [LINUX tdp_mmu_set_spte_atomic]
    ///
    /// @return BUSY when the entry is not `old` any more, or the external tables are busy: nothing has changed
    ExternalPageTables.Result setAtomic(MmuPage page, int index, long gfn, long old, long spte) {
        boolean mirror = page.isMirror();
        if (!tables.compareAndSet(page, index, old, mirror ? Spte.FROZEN : spte)) {
            return ExternalPageTables.Result.BUSY;
        }
        var result = changed(page, gfn, old, spte, true);
        if (mirror) {
            tables.write(page, index, result == ExternalPageTables.Result.DONE ? spte : old);
        }
        if (result == ExternalPageTables.Result.FAILED) {
            mmu.bug();
        }
        return result;
    }

    /// Does what follows from a change: counts pages, frees tables that fell out, tells the external tables. [LINUX
    /// __handle_changed_spte]
    private ExternalPageTables.Result changed(MmuPage page, long gfn, long old, long spte, boolean shared) {
        int level = page.level();
        boolean wasPresent = Spte.isPresent(old);
        boolean isPresent = Spte.isPresent(spte);
        boolean wasLeaf = wasPresent && Spte.isLeaf(old, level);
        boolean isLeaf = isPresent && Spte.isLeaf(spte, level);
        if (wasLeaf && isLeaf && Spte.address(old) != Spte.address(spte)) {
            throw new IllegalStateException("a mapped page was replaced by another without being unmapped: gfn 0x"
                    + Long.toHexString(gfn));
        }
        if (!wasPresent && !isPresent) {
            return ExternalPageTables.Result.DONE;
        }
        if (wasPresent && !wasLeaf && (isLeaf || !isPresent)) {
            removeTable(tables.child(old), shared);
        } else if (page.isMirror()) {
            var result = follow(gfn, level, old, spte, wasPresent, isLeaf);
            if (result != ExternalPageTables.Result.DONE) {
                return result;
            }
        }
        if (wasLeaf != isLeaf) {
            mmu.pages().change(level, isLeaf ? 1 : -1);
        }
        return ExternalPageTables.Result.DONE;
    }

    private ExternalPageTables.Result follow(long gfn, int level, long old, long spte, boolean wasPresent, boolean isLeaf) {
        var external = mmu.external();
        if (wasPresent) {
            if (mmu.has(Defect.MIRROR_ZAP_LEAVES_SECURE_EPT)) {
                return ExternalPageTables.Result.DONE;
            }
            if (!external.removeLeaf(gfn, level, Spte.address(old))) {
                mmu.lost(Spte.address(old));
                return ExternalPageTables.Result.FAILED;
            }
            return ExternalPageTables.Result.DONE;
        }
        return isLeaf ? external.mapLeaf(gfn, level, Spte.address(spte))
                : external.linkTable(gfn, level, tables.child(spte).externalPa);
    }

    /// A table fell out of the tree: clears its entries and frees it with all below. [LINUX handle_removed_pt]
    private void removeTable(MmuPage table, boolean shared) {
        mmu.nxHugePages().untrack(table);
        int level = table.level();
        for (int i = 0; i < PageTables.ENTRIES; i++) {
            long old = shared ? freeze(table, i) : tables.read(table, i);
            if (!Spte.isPresent(old)) {
                continue;
            }
            if (!shared) {
                if (masks.isVolatile(old)) {
                    old = tables.exchange(table, i, Spte.FROZEN);
                } else {
                    tables.write(table, i, Spte.FROZEN);
                }
            }
            if (changed(table, table.gfn + (i * PageTables.span(level)), old, Spte.FROZEN, shared) != ExternalPageTables.Result.DONE) {
                mmu.bug();
            }
        }
        if (table.isMirror()) {
            if (mmu.external().reclaimTable(table.externalPa)) {
                tables.freeExternal(table.externalPa);
            } else {
                mmu.lost(table.externalPa);
            }
        }
        tables.free(table);
    }

    /// Takes an entry out that others may be changing: who faults on it afterwards meets it frozen, and who has it frozen ends first.
    private long freeze(MmuPage table, int index) {
        while (true) {
            long old = tables.exchange(table, index, Spte.FROZEN);
            if (old != Spte.FROZEN) {
                return old;
            }
            mmu.letOthersRun();
        }
    }

    // --- faults

    /// Maps the page of a fault in the tree of `root`. mmu_lock is held shared. [LINUX kvm_tdp_mmu_map]
    FaultResult map(VcpuMmu vcpu, MmuPage root, PageFault fault) {
        adjustToLargePage(vcpu, fault);
        long g = fault.gfn | mmu.rootBits(root);
        tables.beginWalk();
        try {
            var table = root;
            while (true) {
                int level = table.level();
                int index = PageTables.index(g, level);
                long spte = tables.read(table, index);
                if (fault.nxHugePages) {
                    stayBelowExecutableTable(fault, spte, level);
                }
                if (spte == Spte.FROZEN) {
                    return FaultResult.RETRY;
                }
                if (level == fault.goalLevel) {
                    return mapLeaf(vcpu, table, index, spte, fault);
                }
                if (!Spte.isPresent(spte) || Spte.isLarge(spte)) {
                    var result = stepDown(table, index, spte, fault);
                    if (result != FaultResult.FIXED) {
                        return result;
                    }
                    spte = tables.read(table, index);
                    if (!Spte.isPresent(spte) || Spte.isLarge(spte)) {
                        return FaultResult.RETRY;
                    }
                }
                table = tables.child(spte);
            }
        } catch (KvmException noMemory) {
            return FaultResult.NO_MEMORY;
        } finally {
            tables.endWalk();
        }
    }

    /// [LINUX kvm_mmu_hugepage_adjust]
    void adjustToLargePage(VcpuMmu vcpu, PageFault fault) {
        fault.hugePageDisallowed = fault.fetch && fault.nxHugePages;
        if (fault.maxLevel == 1 || fault.slot == null || fault.slot.logsDirtyPages()) {
            return;
        }
        fault.requestedLevel = mmu.maxMappingLevel(vcpu, fault.slot, fault.gfn, fault.isPrivate, fault.maxLevel);
        if (fault.requestedLevel > 1 && !fault.hugePageDisallowed) {
            fault.goalLevel = fault.requestedLevel;
            fault.pa &= -(PageTables.span(fault.goalLevel) << Mmu.PAGE_SHIFT);
        }
    }

    /// Where small pages are because they are executable, others stay small too. [LINUX disallowed_hugepage_adjust]
    private void stayBelowExecutableTable(PageFault fault, long spte, int level) {
        if (level > 1 && level == fault.goalLevel && Spte.isPresent(spte) && !Spte.isLarge(spte)
                && tables.child(spte).nxHugePageDisallowed) {
            long inPage = PageTables.span(level) - PageTables.span(level - 1);
            fault.pa |= (fault.gfn & inPage) << Mmu.PAGE_SHIFT;
            fault.goalLevel--;
        }
    }

    /// Links a table below an entry that has none: an empty one, or one with the small pages of a large page.
    private FaultResult stepDown(MmuPage table, int index, long spte, PageFault fault) {
        int level = table.level();
        long gfn = fault.gfn & -PageTables.span(level);
        var child = tables.allocate(MmuRole.withLevel(table.role, level - 1), gfn, table, index);
        try {
            if (table.isMirror()) {
                child.externalPa = tables.allocateExternal();
            }
        } catch (KvmException noMemory) {
            tables.free(child);
            throw noMemory;
        }
        child.nxHugePageDisallowed = fault.hugePageDisallowed;
        var result = Spte.isPresent(spte) ? mmu.hugePages().split(table, index, gfn, spte, child)
                : setAtomic(table, index, gfn, spte, masks.nonLeaf(child.tablePa, !MmuRole.hasAccessedDirty(table.role)));
        if (result != ExternalPageTables.Result.DONE) {
            freeUnused(child);
            return result == ExternalPageTables.Result.BUSY ? FaultResult.RETRY : FaultResult.BUGGED;
        }
        if (fault.hugePageDisallowed && fault.requestedLevel >= level) {
            mmu.nxHugePages().track(child);
        }
        return FaultResult.FIXED;
    }

    /// Frees a page that was never linked.
    void freeUnused(MmuPage page) {
        if (page.externalPa != 0) {
            tables.freeExternal(page.externalPa);
        }
        tables.free(page);
    }

    /// [LINUX tdp_mmu_map_handle_target_level]
    private FaultResult mapLeaf(VcpuMmu vcpu, MmuPage table, int index, long old, PageFault fault) {
        int level = table.level();
        boolean wasPresent = Spte.isPresent(old);
        boolean wasLeaf = wasPresent && Spte.isLeaf(old, level);
        if (wasLeaf && (fault.prefetch || masks.allows(old, fault.access()))) {
            return FaultResult.SPURIOUS;
        }
        long spte = fault.slot == null
                ? masks.mmio(mmu.mmioValue(), fault.gfn << Mmu.PAGE_SHIFT, mmu.slots().generation(table.addressSpace()),
                        MmuRole.access(table.role))
                : mmu.leaf(vcpu, table, fault, MmuRole.access(table.role));
        var result = FaultResult.FIXED;
        if (spte == old) {
            result = FaultResult.SPURIOUS;
        } else {
            long gfn = fault.gfn & -PageTables.span(level);
            switch (setAtomic(table, index, gfn, old, spte)) {
                case DONE -> {
                }
                case BUSY -> {
                    return FaultResult.RETRY;
                }
                case FAILED -> {
                    return FaultResult.BUGGED;
                }
            }
            if (wasPresent && !wasLeaf) {
                mmu.flushRemoteTlbs(); // smaller pages may be cached
            }
        }
        if (fault.writeProtected && fault.write) {
            return FaultResult.WRITE_PROTECTED;
        }
        return fault.slot == null ? FaultResult.EMULATE : result;
    }

    /// Fixes what needs no memory and no lock: a write that is only to be seen, an access that is only to be seen. [LINUX
    /// fast_page_fault]
    ///
    /// @return null when the fault is not of that kind
    FaultResult fastFault(VcpuMmu vcpu, MmuPage root, PageFault fault) {
        tables.beginWalk();
        try {
            for (int tries = 0; tries < 5; tries++) {
                var table = root;
                int index;
                long spte;
                while (true) {
                    index = PageTables.index(fault.gfn | mmu.rootBits(root), table.level());
                    spte = tables.read(table, index);
                    if (!Spte.isPresent(spte) || Spte.isLeaf(spte, table.level())) {
                        break;
                    }
                    table = tables.child(spte);
                }
                if (!Spte.isPresent(spte)) {
                    return null;
                }
                if (masks.allows(spte, fault.access())) {
                    return FaultResult.SPURIOUS;
                }
                long fixed = spte;
                if (masks.isAccessTracked(spte)) {
                    fixed = masks.restored(spte) | masks.accessedBit();
                }
                if (fault.write && masks.isMmuWritable(spte)) {
                    fixed |= Spte.WRITABLE;
                    if (table.level() > 1 && fault.slot.logsDirtyPages()) {
                        return null; // must become small pages first
                    }
                }
                if (fixed == spte || !masks.allows(fixed, fault.access())) {
                    return null;
                }
                if (tables.compareAndSet(table, index, spte, fixed)) {
                    if (Spte.isWritable(fixed) && !Spte.isWritable(spte)) {
                        mmu.dirtyLog().mark(vcpu, fault.slot, fault.gfn);
                    }
                    return FaultResult.FIXED;
                }
            }
            return null;
        } finally {
            tables.endWalk();
        }
    }

    /// The entry that a walk for `gfn` ends at.
    long lookUp(MmuPage root, long gfn) {
        var table = root;
        while (true) {
            long spte = tables.read(table, PageTables.index(gfn | mmu.rootBits(root), table.level()));
            if (!Spte.isPresent(spte) || Spte.isLeaf(spte, table.level())) {
                return spte;
            }
            table = tables.child(spte);
        }
    }

    // --- unmapping

    /// Unmaps guest frames `[first, end)` in roots of `types`. mmu_lock is held exclusively. [LINUX kvm_tdp_mmu_zap_leafs,
    /// kvm_tdp_mmu_unmap_gfn_range]
    ///
    /// @return whether TLBs must be flushed before the lock is released
    boolean zapLeaves(int addressSpace, int types, long first, long end, boolean mayGiveWay) {
        boolean flush = false;
        for (var root : references(addressSpace, types)) {
            flush |= zapLeaves(root, first, end, mayGiveWay);
            put(root);
        }
        return flush;
    }

    private boolean zapLeaves(MmuPage root, long first, long end, boolean mayGiveWay) {
        boolean flush = false;
        tables.beginWalk();
        try {
            var at = new TdpIterator(tables).start(root, 1, first, Math.min(end, mmu.maxGfn() + 1), mmu.rootBits(root));
            while (at.next()) {
                if (!Spte.isPresent(at.spte) || !Spte.isLeaf(at.spte, at.level)
                        || (at.level > 1 && mmu.has(Defect.ZAP_FORGETS_LARGE_PAGES))) {
                    continue;
                }
                setExclusive(at.table(), at.index, at.gfn, at.spte, Spte.NONPRESENT);
                flush |= !root.isInvalid(); // of an invalid root, nobody has translations
                if (mayGiveWay && mmu.lockIsContended()) {
                    if (flush) {
                        mmu.flushRemoteTlbs();
                        flush = false;
                    }
                    mmu.giveWay(false);
                    at.restartAfterEntry();
                }
            }
        } finally {
            tables.endWalk();
        }
        return flush;
    }

    /// The roots for who inspects the VM.
    void inspect(List<KvmInspection.Root> found) {
        for (var root : roots) {
            found.add(new KvmInspection.Root(root.isMirror() ? KvmInspection.Tables.MIRROR : KvmInspection.Tables.EPT, root.tablePa,
                    root.level(), root.isInvalid(), root.addressSpace()));
        }
    }

    /// The frames of all roots, in order of their creation.
    long[] rootTables() {
        return roots.stream().mapToLong(root -> root.tablePa).toArray();
    }
}
