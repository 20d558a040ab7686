package cloister.kvm.mmu;

import cloister.kvm.KvmException;

/// Large pages become small ones when writes are to be seen page by page, and small ones become large again. [LINUX
/// kvm_tdp_mmu_try_split_huge_pages, kvm_tdp_mmu_recover_huge_pages]
final class HugePages {
    private final Mmu mmu;
    private final TdpMmu tdp;
    private final SpteMasks masks;
    private final long[] small = new long[PageTables.ENTRIES];

    HugePages(Mmu mmu, TdpMmu tdp) {
        this.mmu = mmu;
        this.tdp = tdp;
        this.masks = mmu.masks();
    }

    /// Replaces the large page of `spte` by `child` with its small pages. No TLB flush: the translations stay the same. mmu_lock is held.
    ExternalPageTables.Result split(MmuPage table, int index, long gfn, long spte, MmuPage child) {
        for (int i = 0; i < PageTables.ENTRIES; i++) {
            small[i] = masks.small(spte, child.level(), i, mmu.nxHugePages().enabled(), MmuRole.access(child.role));
        }
        tdp.tables.fill(child, small);
        var result = tdp.setAtomic(table, index, gfn, spte, masks.nonLeaf(child.tablePa, !MmuRole.hasAccessedDirty(table.role)));
        if (result == ExternalPageTables.Result.DONE) {
            mmu.pages().change(child.level(), PageTables.ENTRIES);
        }
        return result;
    }

    /// Splits the large pages of guest frames `[first, end)` down to `level`, as far as there is memory for tables. mmu_lock is held.
    void splitRange(int addressSpace, long first, long end, int level, boolean shared) {
        for (var root : tdp.references(addressSpace, TdpMmu.DIRECT)) {
            tdp.tables.beginWalk();
            try {
                splitRange(root, first, end, level, shared);
            } catch (KvmException noMemory) {
                // The rest stays large until it is written.
            } finally {
                tdp.tables.endWalk();
                tdp.put(root);
            }
        }
    }

    private void splitRange(MmuPage root, long first, long end, int level, boolean shared) {
        var at = new TdpIterator(tdp.tables).start(root, level + 1, first, end, mmu.rootBits(root));
        while (at.next()) {
            while (Spte.isPresent(at.spte) && at.level > level && Spte.isLarge(at.spte)) {
                var child = tdp.tables.allocate(MmuRole.withLevel(at.table().role, at.level - 1), at.gfn, at.table(), at.index);
                if (split(at.table(), at.index, at.gfn, at.spte, child) != ExternalPageTables.Result.DONE) {
                    tdp.freeUnused(child);
                }
                at.refresh();
            }
            if (mmu.giveWay(shared)) {
                at.restartAfterEntry();
            }
        }
    }

    /// Makes large pages of the small ones of a slot where nothing speaks against them any more. mmu_lock is held shared.
    void recover(MemSlot slot) {
        boolean flush = false;
        for (var root : tdp.references(slot.addressSpace(), TdpMmu.DIRECT)) {
            tdp.tables.beginWalk();
            try {
                flush |= recover(root, slot);
            } finally {
                tdp.tables.endWalk();
                tdp.put(root);
            }
        }
        if (flush) {
            mmu.flushRemoteTlbs();
        }
    }

    private boolean recover(MmuPage root, MemSlot slot) {
        boolean changed = false;
        var at = new TdpIterator(tdp.tables).start(root, 2, slot.baseGfn(), slot.endGfn(), mmu.rootBits(root));
        while (at.next()) {
            if (at.level > Mmu.MAX_HUGE_PAGE_LEVEL || !Spte.isPresent(at.spte) || Spte.isLarge(at.spte) || !slot.contains(at.gfn)
                    || mmu.maxMappingLevel(null, slot, at.gfn, mmu.isPrivate(at.gfn), Mmu.MAX_HUGE_PAGE_LEVEL) < at.level) {
                continue;
            }
            long small = firstLeaf(tdp.tables.child(at.spte));
            while (small != 0 && Spte.isPresent(at.spte) && !Spte.isLarge(at.spte)) {
                if (tdp.set(at, masks.large(small, at.level, mmu.nxHugePages().enabled()), true)) {
                    changed = true;
                    break;
                }
                at.refresh();
            }
        }
        return changed;
    }

    /// A leaf entry below `table`, 0 when there is none.
    private long firstLeaf(MmuPage table) {
        for (int i = 0; i < PageTables.ENTRIES; i++) {
            long spte = tdp.tables.read(table, i);
            if (Spte.isPresent(spte)) {
                long leaf = Spte.isLeaf(spte, table.level()) ? spte : firstLeaf(tdp.tables.child(spte));
                if (leaf != 0) {
                    return leaf;
                }
            }
        }
        return 0;
    }
}
