package cloister.kvm.mmu;

/// Seeing writes and accesses: takes W, D and A away from entries of direct roots. [LINUX kvm_tdp_mmu_wrprot_slot,
/// kvm_tdp_mmu_clear_dirty_slot, kvm_tdp_mmu_clear_dirty_pt_masked, kvm_tdp_mmu_age_gfn_range]
final class Tracking {
    private final Mmu mmu;
    private final TdpMmu tdp;
    private final SpteMasks masks;

    Tracking(Mmu mmu, TdpMmu tdp) {
        this.mmu = mmu;
        this.tdp = tdp;
        this.masks = mmu.masks();
    }

    /// Takes W from the entries of a slot at `level` and above. mmu_lock is held shared.
    void writeProtect(MemSlot slot, int level) {
        for (var root : tdp.references(slot.addressSpace(), TdpMmu.DIRECT)) {
            clear(root, slot.baseGfn(), slot.endGfn(), level, Spte.WRITABLE);
            tdp.put(root);
        }
        if (mmu.shadow().inUse()) {
            mmu.shadow().reverse().writeProtect(slot, slot.baseGfn(), slot.endGfn(), level);
        }
    }

    /// Takes D from the small pages of a slot, and W where only write protection shows writes. mmu_lock is held shared.
    void clearDirty(MemSlot slot) {
        for (var root : tdp.references(slot.addressSpace(), TdpMmu.DIRECT)) {
            clear(root, slot.baseGfn(), slot.endGfn(), 1, dirtyBit(root, false));
            tdp.put(root);
        }
        if (mmu.shadow().inUse()) {
            mmu.shadow().reverse().clearDirty(slot, slot.baseGfn(), slot.endGfn(), false);
        }
    }

    private long dirtyBit(MmuPage root, boolean writeProtect) {
        return writeProtect || !masks.accessedDirty() || mmu.isNestedWithDirtyLog(root.role) ? Spte.WRITABLE : masks.dirtyBit();
    }

    private void clear(MmuPage root, long first, long end, int level, long bit) {
        tdp.tables.beginWalk();
        try {
            var at = new TdpIterator(tdp.tables).start(root, level, first, end, mmu.rootBits(root));
            while (at.next()) {
                while (Spte.isPresent(at.spte) && Spte.isLeaf(at.spte, at.level) && (at.spte & bit) != 0
                        && !tdp.set(at, at.spte & ~bit, true)) {
                    at.refresh();
                }
                if (mmu.giveWay(true)) {
                    at.restartAfterEntry();
                }
            }
        } finally {
            tdp.tables.endWalk();
        }
    }

    /// Takes W or D from the small pages among 64 frames. mmu_lock is held exclusively.
    ///
    /// @param gfn  the frame of bit 0
    /// @param mask which of the frames
    void clearMasked(int addressSpace, long gfn, long mask, boolean writeProtect) {
        for (var root : tdp.references(addressSpace, TdpMmu.DIRECT)) {
            long bit = dirtyBit(root, writeProtect);
            long first = gfn + Long.numberOfTrailingZeros(mask);
            var at = new TdpIterator(tdp.tables).start(root, 1, first, gfn + Long.SIZE, mmu.rootBits(root));
            while (at.next()) {
                if (at.level == 1 && Spte.isPresent(at.spte) && (mask & (1L << (at.gfn - gfn))) != 0 && (at.spte & bit) != 0) {
                    if (masks.isVolatile(at.spte)) {
                        tdp.tables.clearBits(at.table(), at.index, bit);
                    } else {
                        tdp.tables.write(at.table(), at.index, at.spte & ~bit);
                    }
                }
            }
            tdp.put(root);
        }
        if (mmu.shadow().inUse()) {
            for (long bits = mask; bits != 0; bits &= bits - 1) {
                long at = gfn + Long.numberOfTrailingZeros(bits);
                var slot = mmu.slots().find(addressSpace, at);
                if (slot != null) {
                    mmu.shadow().reverse().clearDirty(slot, at, at + 1, writeProtect);
                }
            }
        }
    }

    /// Takes W from the page of `gfn` at `level` or above, for good: the fast path does not give it back. mmu_lock is held exclusively.
    ///
    /// @return whether TLBs must be flushed
    boolean writeProtectForGood(MemSlot slot, long gfn, int level) {
        boolean flush = false;
        for (var root : tdp.references(slot.addressSpace(), TdpMmu.DIRECT)) {
            var at = new TdpIterator(tdp.tables).start(root, level, gfn, gfn + 1, mmu.rootBits(root));
            while (at.next()) {
                long without = at.spte & ~(Spte.WRITABLE | masks.mmuWritableBit());
                if (Spte.isPresent(at.spte) && Spte.isLeaf(at.spte, at.level) && without != at.spte) {
                    tdp.set(at, without, false);
                    flush = true;
                }
            }
            tdp.put(root);
        }
        return flush;
    }

    /// Whether a page of guest frames `[first, end)` was accessed; forgets it unless `testOnly`. TLBs are not flushed: an access that they
    /// let through is not seen. mmu_lock is held shared.
    boolean age(int addressSpace, long first, long end, boolean testOnly) {
        boolean accessed = false;
        for (var root : tdp.references(addressSpace, TdpMmu.DIRECT)) {
            tdp.tables.beginWalk();
            var at = new TdpIterator(tdp.tables).start(root, 1, first, end, mmu.rootBits(root));
            while (at.next()) {
                if (Spte.isPresent(at.spte) && Spte.isLeaf(at.spte, at.level) && masks.isAccessed(at.spte)) {
                    accessed = true;
                    if (!testOnly) {
                        // Who changed the entry meanwhile uses the page or unmaps it: no second try.
                        tdp.tables.compareAndSet(at.table(), at.index, at.spte, masks.aged(at.spte));
                    }
                }
            }
            tdp.tables.endWalk();
            tdp.put(root);
        }
        for (long gfn = first; mmu.shadow().inUse() && gfn < end;) {
            var slot = mmu.slots().find(addressSpace, gfn);
            long last = slot == null ? end : Math.min(end, slot.endGfn());
            accessed |= slot != null && mmu.shadow().reverse().age(slot, gfn, last, testOnly);
            gfn = last;
        }
        return accessed;
    }
}
