package cloister.kvm.mmu;

/// Finds the entries of shadow pages that map a guest frame, and changes them: unmapping, write protection, ageing. [LINUX
/// "rmap" of arch/x86/kvm/mmu/mmu.c]
///
/// mmu_lock is held. Where that is shared, an entry is read and changed without a switch point in between.
final class ReverseMap {
    private final Mmu mmu;
    private final PageTables tables;
    private final SpteMasks masks;
    private final EntryLists lists;

    ReverseMap(Mmu mmu, PageTables tables, EntryLists lists) {
        this.mmu = mmu;
        this.tables = tables;
        this.masks = mmu.masks();
        this.lists = lists;
    }

    static int index(long entryPa) {
        return (int) (entryPa >>> 3) & (PageTables.ENTRIES - 1);
    }

    static long entryPa(MmuPage page, int index) {
        return page.tablePa + (8L * index);
    }

    MmuPage page(long entryPa) {
        return tables.at(entryPa & -(1L << Mmu.PAGE_SHIFT));
    }

    // --- one entry

    void add(MemSlot slot, MmuPage page, int index, long gfn, int access) {
        page.shadow.translation(index, gfn, access);
        int level = page.level();
        slot.shadow().list(gfn, level, lists.add(slot.shadow().list(gfn, level), entryPa(page, index)));
        mmu.pages().change(level, 1);
    }

    /// Takes a mapped page out of its table. [LINUX drop_spte]
    void drop(MmuPage page, int index) {
        tables.write(page, index, Spte.NONPRESENT);
        long gfn = ShadowState.gfn(page, index);
        int level = page.level();
        var slot = mmu.slots().find(page.addressSpace(), gfn);
        if (slot == null) {
            throw new IllegalStateException("a slot went while shadow pages map it: gfn 0x" + Long.toHexString(gfn));
        }
        slot.shadow().list(gfn, level, lists.remove(slot.shadow().list(gfn, level), entryPa(page, index)));
        mmu.pages().change(level, -1);
    }

    // --- ranges of guest frames

    private interface Change {
        /// Returns the entry as it is to be; [Spte#NONPRESENT] unmaps.
        long of(MmuPage page, long spte);
    }

    /// Applies `change` to every entry of `[first, end)` of a slot from `lowest` to `highest` level.
    ///
    /// @return whether an entry changed
    private boolean forRange(MemSlot slot, long first, long end, int lowest, int highest, Change change) {
        boolean changed = false;
        for (int level = lowest; level <= highest; level++) {
            if (!slot.shadow().hasEntries(level)) {
                continue;
            }
            long span = PageTables.span(level);
            for (long gfn = Math.max(first & -span, slot.baseGfn()); gfn < end; gfn = (gfn & -span) + span) {
                changed |= forFrame(slot, gfn, level, change);
            }
        }
        return changed;
    }

    private boolean forFrame(MemSlot slot, long gfn, int level, Change change) {
        boolean changed = false;
        for (int i = lists.size(slot.shadow().list(gfn, level)) - 1; i >= 0; i--) {
            long at = lists.at(slot.shadow().list(gfn, level), i);
            var page = page(at);
            long old = tables.read(page, index(at));
            long spte = change.of(page, old);
            if (spte == Spte.NONPRESENT) {
                drop(page, index(at));
            } else if (spte != old) {
                tables.write(page, index(at), spte);
            }
            changed |= spte != old;
        }
        return changed;
    }

    /// Unmaps. mmu_lock is held exclusively. [LINUX kvm_rmap_zap_gfn_range]
    ///
    /// @return whether TLBs must be flushed
    boolean unmap(MemSlot slot, long first, long end) {
        return forRange(slot, first, end, 1, Mmu.MAX_HUGE_PAGE_LEVEL, (page, spte) -> Spte.NONPRESENT);
    }

    /// Takes W from the entries of a range at `level` and above, so that writes are seen. [LINUX slot_rmap_write_protect]
    boolean writeProtect(MemSlot slot, long first, long end, int level) {
        return forRange(slot, first, end, level, Mmu.MAX_HUGE_PAGE_LEVEL, (page, spte) -> spte & ~Spte.WRITABLE);
    }

    /// Takes W for good from the entries of `gfn` at `level` and above: its table is shadowed. [LINUX kvm_mmu_slot_gfn_write_protect]
    boolean writeProtectForGood(MemSlot slot, long gfn, int level) {
        return forRange(slot, gfn, gfn + 1, level, Mmu.MAX_HUGE_PAGE_LEVEL,
                (page, spte) -> spte & ~(Spte.WRITABLE | masks.mmuWritableBit()));
    }

    /// Makes writes to the small pages of `[first, end)` be seen again: takes D where the processor logs what gets it, W elsewhere. [LINUX
    /// __rmap_clear_dirty]
    boolean clearDirty(MemSlot slot, long first, long end, boolean byWriteProtection) {
        return forRange(slot, first, end, 1, 1, (page, spte) -> {
            boolean protect = byWriteProtection || !masks.isEpt() || Spte.needsWriteProtection(spte);
            return spte & ~(protect ? Spte.WRITABLE : masks.dirtyBit());
        });
    }

    /// Whether a page of the range was accessed; forgets it unless `testOnly`. [LINUX kvm_rmap_age_gfn_range]
    boolean age(MemSlot slot, long first, long end, boolean testOnly) {
        boolean[] accessed = new boolean[1];
        forRange(slot, first, end, 1, Mmu.MAX_HUGE_PAGE_LEVEL, (page, spte) -> {
            boolean was = masks.isAccessed(spte);
            accessed[0] |= was;
            return was && !testOnly ? masks.aged(spte) : spte;
        });
        return accessed[0];
    }
}
