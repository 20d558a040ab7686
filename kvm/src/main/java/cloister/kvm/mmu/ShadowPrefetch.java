package cloister.kvm.mmu;

import cloister.kvm.KvmException;

/// Makes the neighbours of an entry that a fault made, as far as the guest has used their pages and they are in memory already: a guest
/// that goes through its memory then faults once for eight pages. mmu_lock is held exclusively. [LINUX FNAME(pte_prefetch),
/// direct_pte_prefetch, kvm_mmu_prefetch_sptes]
final class ShadowPrefetch {
    /// Entries are prefetched in groups of so many. (PTE_PREFETCH_NUM)
    static final int GROUP = 8;

    private final Mmu mmu;
    private final VcpuMmu vcpu;
    private final ShadowVcpu shadowVcpu;
    private final ShadowMmu shadow;
    /// What [Mmu#leaf] is told of a page that nobody asked for.
    private final PageFault fault = new PageFault();

    ShadowPrefetch(Mmu mmu, VcpuMmu vcpu, ShadowVcpu shadowVcpu) {
        this.mmu = mmu;
        this.vcpu = vcpu;
        this.shadowVcpu = shadowVcpu;
        this.shadow = mmu.shadow();
    }

    /// A fault made entry `index` of `page`.
    void around(MmuPage page, int index) {
        if (page.level() > 1 || mmu.invalidationInProgress()) {
            return; // the address behind an entry may be on its way out
        }
        boolean direct = MmuRole.isDirect(page.role);
        if (direct && !shadowVcpu.paging().translates() && !MmuRole.hasAccessedDirty(page.role)) {
            return; // nothing would tell which of them the guest used
        }
        int first = index & -GROUP;
        if (direct) {
            aroundDirect(page, index, first);
            return;
        }
        for (int i = first; i < first + GROUP; i++) {
            if (i != index && !Spte.isPresent(shadow.tables.read(page, i)) && !fromGuest(page, i)) {
                return;
            }
        }
    }

    /// Where the guest maps in a row, its entries need not be read. Each row without present entries ends at the first page that cannot be
    /// had, and nothing follows a row of none.
    private void aroundDirect(MmuPage page, int index, int first) {
        int start = -1;
        for (int i = first; i <= first + GROUP; i++) {
            boolean ends = i == first + GROUP || i == index || Spte.isPresent(shadow.tables.read(page, i));
            if (!ends && start < 0) {
                start = i;
            } else if (ends && start >= 0) {
                if (!map(page, start, i - start, ShadowState.gfn(page, start), MmuRole.access(page.role))) {
                    return;
                }
                start = -1;
            }
        }
    }

    /// [LINUX FNAME(prefetch_gpte), FNAME(prefetch_invalid_gpte)]
    private boolean fromGuest(MmuPage page, int index) {
        var paging = shadowVcpu.paging();
        long entry;
        try {
            entry = shadow.sync().guestEntry(shadowVcpu, page, index);
        } catch (KvmException outsideMemory) {
            return false;
        }
        boolean used = (entry & paging.accessedBit()) == paging.accessedBit();
        if (!paging.isPresent(entry) || !used || paging.isReserved(entry, 1)) {
            if (shadow.tables.read(page, index) != Spte.NONPRESENT) {
                shadow.clear(page, index, null);
            }
            return false;
        }
        int access = paging.withoutCleanWrites(MmuRole.access(page.role) & paging.access(entry), entry);
        return map(page, index, 1, paging.tableGfn(entry), access);
    }

    /// Maps pages in a row as far as they have frames and may be written.
    ///
    /// @return whether there was one at least
    private boolean map(MmuPage page, int index, int count, long gfn, int access) {
        var slot = vcpu.slot(gfn);
        if (slot == null || slot.isInvalid() || slot.readOnly() || slot.gmemOnly() || gfn + count > slot.endGfn()
                || ((access & Spte.ACCESS_WRITE) != 0 && slot.logsDirtyPages())) {
            return false;
        }
        for (int i = 0; i < count; i++) {
            long pa = mmu.module().userMemory().present(slot.hva(gfn + i));
            if (pa < 0) {
                return i > 0;
            }
            fault.start(0, true, false);
            fault.gfn = gfn + i;
            fault.slot = slot;
            fault.pa = pa;
            fault.mayWrite = true;
            long spte = mmu.leaf(vcpu, page, fault, access);
            shadow.clear(page, index + i, null);
            shadow.tables.write(page, index + i, spte);
            shadow.reverse().add(slot, page, index + i, gfn + i, access);
        }
        return true;
    }
}
