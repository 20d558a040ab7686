package cloister.kvm.mmu;

import cloister.kvm.KvmException;
import java.util.ArrayList;
import java.util.List;

/// Brings unsync shadow pages up to date with the tables that they shadow: when a guest loads CR3, drops translations, or uses a page
/// anew. mmu_lock is held exclusively. [LINUX mmu_sync_children, kvm_sync_page, FNAME(sync_spte)]
final class ShadowSync {
    private static final int FAILED = -1;
    private static final int UNCHANGED = 0;
    private static final int CHANGED = 1;

    private final Mmu mmu;
    private final ShadowMmu shadow;

    ShadowSync(Mmu mmu, ShadowMmu shadow) {
        this.mmu = mmu;
        this.shadow = shadow;
    }

    /// Collects the unsync pages below `page`, and forgets marks under which there are none. [LINUX mmu_unsync_walk]
    ///
    /// @return whether there are any
    boolean collect(MmuPage page, List<MmuPage> found) {
        int before = found.size();
        var state = page.shadow;
        for (int word = 0; word < state.unsyncBits.length; word++) {
            for (long bits = state.unsyncBits[word]; bits != 0; bits &= bits - 1) {
                int index = (word << 6) + Long.numberOfTrailingZeros(bits);
                long spte = shadow.tables.read(page, index);
                if (!Spte.isPresent(spte) || Spte.isLeaf(spte, page.level())) {
                    state.unmark(index);
                    continue;
                }
                var child = shadow.tables.child(spte);
                if (child.shadow.unsync) {
                    found.add(child);
                } else if (child.shadow.unsyncChildren == 0 || !collect(child, found)) {
                    state.unmark(index);
                }
            }
        }
        return found.size() > before;
    }

    /// Brings all pages below `root` up to date.
    void children(ShadowVcpu vcpu, MmuPage root) {
        var unsync = new ArrayList<MmuPage>();
        var gone = new ArrayList<MmuPage>();
        boolean flush = false;
        while (collect(root, unsync)) {
            boolean isProtected = false;
            for (var page : unsync) {
                var slot = mmu.slots().find(page.addressSpace(), page.gfn);
                isProtected |= slot != null && shadow.writeProtect(slot, page.gfn);
            }
            if (isProtected) {
                mmu.flushRemoteTlbs();
            }
            for (var page : unsync) {
                if (page.shadow.unsync) {
                    flush |= synchronize(vcpu, page, gone);
                }
            }
            unsync.clear();
        }
        if (flush && gone.isEmpty()) {
            mmu.flushRemoteTlbs();
        }
        shadow.commit(gone);
    }

    /// Brings one page up to date, or takes it out when it cannot be. Its table becomes write-protected first, unless it is so.
    ///
    /// @return whether TLBs must be flushed
    boolean synchronize(ShadowVcpu vcpu, MmuPage page, List<MmuPage> gone) {
        var slot = mmu.slots().find(page.addressSpace(), page.gfn);
        boolean flush = slot != null && shadow.writeProtect(slot, page.gfn);
        page.shadow.unsync = false;
        if (!MmuRole.canSync(page.role, vcpu.rootRole())) {
            shadow.zap(page, gone);
            return true;
        }
        for (int i = 0; i < PageTables.ENTRIES; i++) {
            int result = entry(vcpu, page, i);
            if (result == FAILED) {
                shadow.zap(page, gone);
                return true;
            }
            flush |= result == CHANGED;
        }
        return flush;
    }

    /// INVLPG: brings the entry for `address` up to date. The page stays unsync.
    void address(ShadowVcpu vcpu, MmuPage root, long address) {
        var page = root;
        while (true) {
            int index = PageTables.index(address >>> Mmu.PAGE_SHIFT, page.level());
            if (page.shadow.unsync) {
                int result = entry(vcpu, page, index);
                if (result == FAILED) {
                    shadow.clear(page, index, null);
                }
                if (result != UNCHANGED) {
                    mmu.flushRemoteTlbs();
                }
            }
            long spte = shadow.tables.read(page, index);
            if (page.shadow.unsyncChildren == 0 || !Spte.isPresent(spte) || Spte.isLeaf(spte, page.level())) {
                return;
            }
            page = shadow.tables.child(spte);
        }
    }

    /// The guest's entry that entry `index` of a smallest table was made from.
    ///
    /// @throws KvmException when the table is outside of memory
    long guestEntry(ShadowVcpu vcpu, MmuPage page, int index) {
        int bytes = vcpu.paging().entryBytes();
        int quadrant = MmuRole.hasFourByteEntries(page.role) ? MmuRole.quadrant(page.role) : 0;
        return vcpu.memory().read((page.gfn << Mmu.PAGE_SHIFT) + (((long) (quadrant << 9) + index) * bytes), bytes);
    }

    private int entry(ShadowVcpu vcpu, MmuPage page, int index) {
        long spte = shadow.tables.read(page, index);
        if (spte == Spte.NONPRESENT) {
            return UNCHANGED;
        }
        var paging = vcpu.paging();
        long entry;
        try {
            entry = guestEntry(vcpu, page, index);
        } catch (KvmException outsideMemory) {
            return FAILED;
        }
        boolean valid = paging.isPresent(entry) && !paging.isReserved(entry, 1)
                && (entry & paging.accessedBit()) == paging.accessedBit();
        if (!valid) {
            return shadow.clear(page, index, null) ? CHANGED : UNCHANGED;
        }
        long gfn = paging.tableGfn(entry);
        int access = paging.withoutCleanWrites(MmuRole.access(page.role) & paging.access(entry), entry);
        if (!Spte.isPresent(spte)) {
            // An entry for MMIO: the next access finds out anew.
            shadow.tables.write(page, index, Spte.NONPRESENT);
            return UNCHANGED;
        }
        boolean maps = !mmu.masks().isEpt() || (access & (Spte.ACCESS_READ | Spte.ACCESS_WRITE | Spte.ACCESS_EXECUTE)) != 0;
        if (!maps || gfn != ShadowState.gfn(page, index)) {
            shadow.clear(page, index, null);
            return CHANGED;
        }
        if (ShadowState.access(page, index) == access) {
            return UNCHANGED;
        }
        page.shadow.translation(index, gfn, access);
        shadow.tables.write(page, index, narrowed(page, spte, gfn, access));
        return CHANGED;
    }

    /// The entry with the rights that the guest gives now; it becomes writable by a fault only.
    private long narrowed(MmuPage page, long spte, long gfn, int access) {
        var masks = mmu.masks();
        long rights = masks.permissions(Spte.ACCESS_ALL) | masks.permissions(0);
        long plain = (masks.isAccessTracked(spte) ? masks.restored(spte) : spte) & ~rights;
        boolean writable = (access & Spte.ACCESS_WRITE) != 0 && Spte.isWritable(spte)
                && !shadow.keepsReadOnly(mmu.slots().find(page.addressSpace(), gfn), gfn, false, false);
        return (plain & ~(writable ? 0 : Spte.WRITABLE | masks.mmuWritableBit())) | masks.permissions(access);
    }
}
