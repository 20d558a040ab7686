package cloister.kvm.mmu;

import java.util.ArrayList;
import java.util.List;

/// The shadow pages of one VM: tables for the processor made from a guest's own tables, each found by the guest frame of the table and
/// its role. [LINUX Documentation/virt/kvm/x86/mmu.rst "Shadow pages", arch/x86/kvm/mmu/mmu.c]
///
/// A table of a higher level is write-protected as long as a page shadows it: writes are emulated and told to [#trackWrite]. A smallest
/// table may be written; its pages are unsync then, and brought up to date when the guest drops translations ([ShadowSync]). mmu_lock is
/// held exclusively everywhere unless another thing is said.
final class ShadowMmu {
    private static final int BUCKETS = 1 << 12;
    private static final int LEAST_FREE = 5;
    private static final int REFILL = 25;
    private static final long LEAST_QUOTA = 64;
    private static final long SLOT_PAGES_PER_TABLE = 50;
    private static final int FLOOD = 3;
    private static final int UNKNOWN = -1;

    private final Mmu mmu;
    final PageTables tables;
    private final SpteMasks masks;
    private final EntryLists lists = new EntryLists();
    private final ReverseMap reverse;
    private final ShadowSync sync;
    private MmuPage[] buckets;
    private MmuPage oldest;
    private MmuPage newest;
    private int used;
    private long quota = UNKNOWN;
    private int generation;
    /// Pages that shadow tables of guests. (indirect_shadow_pages)
    private int indirect;

    ShadowMmu(Mmu mmu, PageTables tables) {
        this.mmu = mmu;
        this.tables = tables;
        this.masks = mmu.masks();
        this.reverse = new ReverseMap(mmu, tables, lists);
        this.sync = new ShadowSync(mmu, this);
    }

    ReverseMap reverse() {
        return reverse;
    }

    ShadowSync sync() {
        return sync;
    }

    /// Whether there are shadow pages at all; without them nothing here costs anything. [LINUX kvm_memslots_have_rmaps]
    boolean inUse() {
        return used != 0;
    }

    int pages() {
        return used;
    }

    // --- quota [LINUX kvm_mmu_change_mmu_pages, make_mmu_pages_available]

    /// How many shadow pages there may be, instead of what fits the memory slots. What is more goes, the oldest first; roots stay, and
    /// the quota is not less than what is left.
    void quota(long pages) {
        var gone = new ArrayList<MmuPage>();
        zapOldest(Math.max(0, used - pages), gone);
        commit(gone);
        quota = Math.max(pages, used);
    }

    long quota() {
        return quota != UNKNOWN ? quota : Math.max(LEAST_QUOTA, mmu.slots().totalPages() / SLOT_PAGES_PER_TABLE);
    }

    /// Zaps the oldest pages when the quota is nearly used up.
    ///
    /// @return false when there is no page left for a fault
    boolean makeAvailable() {
        long free = quota() - used;
        if (free >= LEAST_FREE) {
            return true;
        }
        var gone = new ArrayList<MmuPage>();
        zapOldest(REFILL - free, gone);
        commit(gone);
        return used < quota();
    }

    private void zapOldest(long goal, List<MmuPage> gone) {
        while (gone.size() < goal) {
            var page = oldest;
            while (page != null && page.rootCount > 0) {
                page = page.shadow.newer;
            }
            if (page == null) {
                return;
            }
            zap(page, gone);
        }
    }

    // --- finding and making pages

    private static int bucket(long gfn) {
        return (int) (gfn ^ (gfn >>> 12)) & (BUCKETS - 1);
    }

    private MmuPage first(long gfn) {
        return buckets == null ? null : buckets[bucket(gfn)];
    }

    private boolean isObsolete(MmuPage page) {
        return page.isInvalid() || page.shadow.generation != generation;
    }

    /// Whether a root must not be used any more.
    boolean mustReload(MmuPage root) {
        return isObsolete(root);
    }

    /// The pages that shadow the table at `gfn`. [LINUX for_each_gfn_valid_sp_with_gptes]
    List<MmuPage> shadowing(long gfn) {
        var found = new ArrayList<MmuPage>();
        for (var page = first(gfn); page != null; page = page.shadow.nextInBucket) {
            if (page.gfn == gfn && !MmuRole.isDirect(page.role) && !isObsolete(page)) {
                found.add(page);
            }
        }
        return found;
    }

    /// The page for the table at `gfn` with `role`, brought up to date, or a new one. [LINUX kvm_mmu_get_shadow_page]
    ///
    /// @throws cloister.kvm.KvmException ENOMEM
    MmuPage page(ShadowVcpu vcpu, long gfn, int role) {
        var gone = new ArrayList<MmuPage>();
        MmuPage found = null;
        boolean flush = false;
        for (var page = first(gfn); page != null && found == null;) {
            var next = page.shadow.nextInBucket;
            if (page.gfn == gfn && !isObsolete(page)) {
                if (page.role == role) {
                    found = page;
                } else if (MmuRole.level(role) > 1 && page.shadow.unsync) {
                    // Now that the table is one of a higher level, it must not change unseen.
                    zap(page, gone);
                    next = first(gfn);
                }
            }
            page = next;
        }
        if (found != null && found.shadow.unsync) {
            flush = sync.synchronize(vcpu, found, gone);
            found = found.isInvalid() ? null : found;
        }
        if (flush) {
            mmu.flushRemoteTlbs();
        }
        commit(gone);
        if (found != null) {
            found.shadow.writeFlood = 0;
            return found;
        }
        return make(gfn, role);
    }

    private MmuPage make(long gfn, int role) {
        var page = tables.allocate(role, gfn, null, 0);
        page.shadow = new ShadowState(MmuRole.isDirect(role), generation);
        if (buckets == null) {
            buckets = new MmuPage[BUCKETS];
        }
        int bucket = bucket(gfn);
        page.shadow.nextInBucket = buckets[bucket];
        buckets[bucket] = page;
        page.shadow.older = newest;
        if (newest == null) {
            oldest = page;
        } else {
            newest.shadow.newer = page;
        }
        newest = page;
        used++;
        if (!MmuRole.isDirect(role)) {
            account(page);
        }
        return page;
    }

    /// [LINUX account_shadowed]
    private void account(MmuPage page) {
        indirect++;
        var slot = mmu.slots().find(page.addressSpace(), page.gfn);
        if (slot == null) {
            return;
        }
        slot.disallowLargePages(page.gfn, 1);
        if (page.level() > 1) {
            slot.shadow().track(page.gfn, 1);
        }
        if (writeProtect(slot, page.gfn)) {
            mmu.flushRemoteTlbs();
        }
    }

    private void unaccount(MmuPage page) {
        indirect--;
        var slot = mmu.slots().find(page.addressSpace(), page.gfn);
        if (slot == null) {
            return;
        }
        slot.disallowLargePages(page.gfn, -1);
        if (page.level() > 1) {
            slot.shadow().track(page.gfn, -1);
        }
    }

    /// Takes W for good from what maps `gfn`.
    ///
    /// @return whether TLBs must be flushed
    boolean writeProtect(MemSlot slot, long gfn) {
        boolean flush = reverse.writeProtectForGood(slot, gfn, 1);
        return mmu.tracking().writeProtectForGood(slot, gfn, 1) || flush;
    }

    /// Whether a write to `gfn` must be emulated because a table of a higher level is there. mmu_lock need not be held.
    boolean isTracked(MemSlot slot, long gfn) {
        return indirect != 0 && slot != null && slot.shadow().isTracked(gfn);
    }

    /// Before `gfn` becomes writable: smallest tables there become unsync.
    ///
    /// @param mayUnsync false while pages are brought up to date
    /// @return true when the page must stay write-protected
    boolean keepsReadOnly(MemSlot slot, long gfn, boolean mayUnsync, boolean prefetch) {
        if (isTracked(slot, gfn)) {
            return true;
        }
        if (indirect == 0) {
            return false;
        }
        for (var page = first(gfn); page != null; page = page.shadow.nextInBucket) {
            if (page.gfn != gfn || MmuRole.isDirect(page.role) || isObsolete(page)) {
                continue;
            }
            if (!mayUnsync || (prefetch && !page.shadow.unsync)) {
                return true;
            }
            if (!page.shadow.unsync) {
                page.shadow.unsync = true;
                markParents(page);
            }
        }
        return false;
    }

    // --- links

    /// Tells the pages above that there is an unsync page. [LINUX kvm_mmu_mark_parents_unsync]
    private void markParents(MmuPage page) {
        for (int i = 0; i < lists.size(page.shadow.parents); i++) {
            markUnsync(lists.at(page.shadow.parents, i));
        }
    }

    private void markUnsync(long entryPa) {
        var parent = reverse.page(entryPa);
        if (parent.shadow.mark(ReverseMap.index(entryPa)) && parent.shadow.unsyncChildren == 1) {
            markParents(parent);
        }
    }

    /// The page that entry `index` of `parent` is to link: null when it links that one already. [LINUX kvm_mmu_get_child_sp]
    MmuPage child(ShadowVcpu vcpu, MmuPage parent, int index, long gfn, boolean direct, int access) {
        int role = MmuRole.child(parent.role, index, direct, access);
        long spte = tables.read(parent, index);
        if (Spte.isPresent(spte) && !Spte.isLarge(spte)) {
            var linked = tables.child(spte);
            if (linked.gfn == gfn && linked.role == role) {
                return null;
            }
        }
        return page(vcpu, gfn, role);
    }

    /// [LINUX link_shadow_page]
    void link(MmuPage parent, int index, MmuPage child) {
        if (clear(parent, index, null)) {
            mmu.flushRemoteTlbs();
        }
        tables.write(parent, index, masks.nonLeaf(child.tablePa, !MmuRole.hasAccessedDirty(child.role)));
        long entryPa = ReverseMap.entryPa(parent, index);
        child.shadow.parents = lists.add(child.shadow.parents, entryPa);
        if (child.shadow.unsync || child.shadow.unsyncChildren != 0) {
            markUnsync(entryPa);
        }
    }

    /// Empties an entry. [LINUX mmu_page_zap_pte]
    ///
    /// @param gone takes pages of guest mode that nothing links any more; null to leave them
    /// @return whether it was present
    boolean clear(MmuPage page, int index, List<MmuPage> gone) {
        long spte = tables.read(page, index);
        if (!Spte.isPresent(spte)) {
            tables.write(page, index, Spte.NONPRESENT); // an entry for MMIO
            return false;
        }
        if (Spte.isLeaf(spte, page.level())) {
            reverse.drop(page, index);
            return true;
        }
        var child = tables.child(spte);
        unlink(page, index, child);
        if (gone != null && masks.isEpt() && MmuRole.isGuestMode(child.role) && child.shadow.parents == 0 && !child.isInvalid()) {
            zap(child, gone);
        }
        return true;
    }

    /// [LINUX drop_parent_pte]
    void unlink(MmuPage page, int index, MmuPage child) {
        tables.write(page, index, Spte.NONPRESENT);
        page.shadow.unmark(index);
        child.shadow.parents = lists.remove(child.shadow.parents, ReverseMap.entryPa(page, index));
    }

    // --- zapping

    /// Takes a page out: it maps nothing, is linked nowhere and is not found any more. One that vCPUs have as root stays until they have
    /// given it back. [LINUX __kvm_mmu_prepare_zap_page]
    ///
    /// @param gone the pages to hand to [#commit]
    void zap(MmuPage page, List<MmuPage> gone) {
        boolean wasObsolete = isObsolete(page);
        if (page.shadow.unsyncChildren != 0) {
            var unsync = new ArrayList<MmuPage>();
            while (sync.collect(page, unsync)) {
                unsync.forEach(child -> {
                    if (!child.isInvalid()) {
                        zap(child, gone);
                    }
                });
                unsync.clear();
            }
        }
        for (int i = 0; i < PageTables.ENTRIES; i++) {
            if (tables.read(page, i) != Spte.NONPRESENT) {
                clear(page, i, gone);
            }
        }
        while (page.shadow.parents != 0) {
            long at = lists.at(page.shadow.parents, 0);
            unlink(reverse.page(at), ReverseMap.index(at), page);
        }
        if (!page.isInvalid()) {
            if (!MmuRole.isDirect(page.role)) {
                unaccount(page);
            }
            remove(page);
        }
        page.shadow.unsync = false;
        page.role = MmuRole.invalid(page.role);
        if (page.rootCount == 0) {
            gone.add(page);
        } else if (!wasObsolete) {
            mmu.reloadRoots();
        }
    }

    private void remove(MmuPage page) {
        int bucket = bucket(page.gfn);
        if (buckets[bucket] == page) {
            buckets[bucket] = page.shadow.nextInBucket;
        } else {
            var before = buckets[bucket];
            while (before.shadow.nextInBucket != page) {
                before = before.shadow.nextInBucket;
            }
            before.shadow.nextInBucket = page.shadow.nextInBucket;
        }
        if (page.shadow.older == null) {
            oldest = page.shadow.newer;
        } else {
            page.shadow.older.shadow.newer = page.shadow.newer;
        }
        if (page.shadow.newer == null) {
            newest = page.shadow.older;
        } else {
            page.shadow.newer.shadow.older = page.shadow.older;
        }
    }

    /// Frees pages that [#zap] took out, after all vCPUs have dropped what they knew of them. [LINUX kvm_mmu_commit_zap_page]
    void commit(List<MmuPage> gone) {
        if (gone.isEmpty()) {
            return;
        }
        mmu.flushRemoteTlbs();
        for (var page : gone) {
            used--;
            tables.free(page);
        }
        gone.clear();
    }

    /// A vCPU gives a root back.
    void put(MmuPage root) {
        if (--root.rootCount == 0 && root.isInvalid()) {
            var gone = new ArrayList<MmuPage>();
            gone.add(root);
            commit(gone);
        }
    }

    /// Makes all pages obsolete, has vCPUs load new roots, and zaps the old ones. [LINUX kvm_mmu_zap_all_fast]
    void zapAllFast() {
        if (!inUse()) {
            return;
        }
        generation++;
        mmu.reloadRoots();
        var gone = new ArrayList<MmuPage>();
        for (var page = oldest; page != null;) {
            if (page.shadow.generation == generation) {
                break; // pages are in the order in which they were made
            }
            zap(page, gone);
            page = oldest;
        }
        commit(gone);
    }

    /// Zaps the pages that shadow tables in guest frames `[first, end)` of a slot. [LINUX kvm_mmu_zap_memslot_pages_and_flush]
    void zapTables(MemSlot slot) {
        var gone = new ArrayList<MmuPage>();
        for (var page = oldest; page != null;) {
            var next = page.shadow.newer;
            if (page.addressSpace() == slot.addressSpace() && !MmuRole.isDirect(page.role) && slot.contains(page.gfn)) {
                zap(page, gone);
                next = oldest; // zapping takes children out too
            }
            page = next;
        }
        commit(gone);
    }

    /// Unmaps guest frames of a slot. [LINUX kvm_unmap_gfn_range]
    ///
    /// @return whether TLBs must be flushed
    boolean unmap(MemSlot slot, long first, long end) {
        return inUse() && reverse.unmap(slot, first, end);
    }

    /// Unmaps guest frames `[first, end)` in all address spaces. [LINUX kvm_rmap_zap_gfn_range]
    boolean unmapAll(long first, long end) {
        boolean flush = false;
        for (int as = 0; inUse() && as < mmu.slots().addressSpaces(); as++) {
            for (var slot : mmu.slots().set(as).all()) {
                long from = Math.max(first, slot.baseGfn());
                long to = Math.min(end, slot.endGfn());
                flush |= from < to && reverse.unmap(slot, from, to);
            }
        }
        return flush;
    }

    // --- writes of guests to their tables

    /// Emulated code wrote to guest memory: entries that were made from what was there go. mmu_lock is not held. [LINUX
    /// kvm_mmu_track_write]
    void trackWrite(long gpa, int bytes) {
        if (indirect == 0) {
            return;
        }
        mmu.lockExclusive();
        try {
            var gone = new ArrayList<MmuPage>();
            boolean flush = false;
            for (var page : shadowing(gpa >>> Mmu.PAGE_SHIFT)) {
                if (page.isInvalid()) {
                    continue; // went with a page before it
                }
                if (isMisaligned(page, gpa, bytes) || floods(page)) {
                    zap(page, gone);
                } else {
                    flush |= clearWritten(page, (int) gpa & 0xfff, gone);
                }
            }
            if (flush && gone.isEmpty()) {
                mmu.flushRemoteTlbs();
            }
            commit(gone);
        } finally {
            mmu.unlockExclusive();
        }
    }

    /// Whether a write looks as if the page held no table any more. [LINUX detect_write_misaligned]
    private static boolean isMisaligned(MmuPage page, long gpa, int bytes) {
        int size = MmuRole.hasFourByteEntries(page.role) ? 4 : 8;
        int offset = (int) gpa & 0xfff;
        if ((offset & (size - 1)) == 0 && bytes == 1) {
            return false; // some systems set flags so
        }
        return ((offset ^ (offset + bytes - 1)) & -size) != 0 || bytes < 4;
    }

    private static boolean floods(MmuPage page) {
        return page.level() > 1 && ++page.shadow.writeFlood >= FLOOD;
    }

    /// [LINUX get_written_sptes]
    private boolean clearWritten(MmuPage page, int offset, List<MmuPage> gone) {
        int at = offset;
        int count = 1;
        if (MmuRole.hasFourByteEntries(page.role)) {
            at <<= 1; // an entry of 4 bytes has one of 8
            if (page.level() == 2) {
                at = (at & ~7) << 1; // one of 4 MiB has two of 2 MiB
                count = 2;
            }
            if (at >>> 12 != MmuRole.quadrant(page.role)) {
                return false;
            }
        }
        boolean changed = false;
        for (int i = 0; i < count; i++) {
            changed |= clear(page, ((at & 0xfff) >>> 3) + i, gone);
        }
        return changed;
    }

    /// Gives up shadowing the table at `gfn`, so that the guest may write there. mmu_lock is not held. [LINUX
    /// __kvm_mmu_unprotect_gfn_and_retry]
    ///
    /// @return whether there was one
    boolean unprotect(long gfn) {
        if (indirect == 0) {
            return false;
        }
        mmu.lockExclusive();
        try {
            var gone = new ArrayList<MmuPage>();
            boolean found = false;
            for (var page : shadowing(gfn)) {
                if (!page.isInvalid()) {
                    zap(page, gone);
                    found = true;
                }
            }
            commit(gone);
            return found;
        } finally {
            mmu.unlockExclusive();
        }
    }
}
