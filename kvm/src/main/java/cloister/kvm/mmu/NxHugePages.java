package cloister.kvm.mmu;

import java.util.ArrayDeque;

/// The parameter nx_huge_pages: large pages are not executable, so that a processor never has an instruction translation of two sizes;
/// where the guest executes, pages are small. From time to time small pages are given up, to become large when they are only data by
/// then. [LINUX "iTLB multihit", kvm_recover_nx_huge_pages]
final class NxHugePages {
    private final Mmu mmu;
    private final ArrayDeque<MmuPage> possible = new ArrayDeque<>();
    private final NxRecovery recovery;
    private boolean enabled;

    NxHugePages(Mmu mmu, MmuModule module) {
        this.mmu = mmu;
        this.recovery = new NxRecovery(mmu, module.scheduler(), module.parameters().nxRecovery());
        this.enabled = module.parameters().nxHugePages();
    }

    /// The worker that recovers large pages by itself.
    NxRecovery recovery() {
        return recovery;
    }

    boolean enabled() {
        return enabled;
    }

    void enabled(boolean on) {
        enabled = on;
    }

    /// `page` is a table only because something below is executed.
    void track(MmuPage page) {
        if (page.nxHugePageDisallowed && !page.possibleNxHugePage) {
            page.possibleNxHugePage = true;
            possible.add(page);
            recovery.arm();
        }
    }

    /// `page` goes.
    void untrack(MmuPage page) {
        page.nxHugePageDisallowed = false;
        if (page.possibleNxHugePage) {
            page.possibleNxHugePage = false;
            possible.remove(page);
        }
    }

    int tracked() {
        return possible.size();
    }

    /// Zaps one of every `ratio` tracked tables, the oldest first; 0 for none. Tables of slots that log writes stay: they would be small
    /// again.
    void recover(int ratio) {
        int count = ratio == 0 ? 0 : (possible.size() + ratio - 1) / ratio;
        boolean flush = false;
        mmu.lockShared();
        try {
            mmu.tdp().tables.beginWalk();
            for (; count > 0 && !possible.isEmpty(); count--) {
                var page = possible.poll();
                page.possibleNxHugePage = false;
                var slot = mmu.slots().find(page.addressSpace(), page.gfn);
                boolean logs = slot != null && slot.logsDirtyPages();
                flush |= !logs && zap(page);
                page.nxHugePageDisallowed = false;
            }
            mmu.tdp().tables.endWalk();
            if (flush) {
                mmu.flushRemoteTlbs();
            }
        } finally {
            mmu.unlockShared();
        }
    }

    private boolean zap(MmuPage page) {
        var tables = mmu.tdp().tables;
        if (page.parent == null) {
            return false;
        }
        long spte = tables.read(page.parent, page.parentIndex);
        boolean links = Spte.isPresent(spte) && !Spte.isLarge(spte) && tables.child(spte) == page;
        return links && mmu.tdp().setAtomic(page.parent, page.parentIndex, page.gfn, spte, Spte.NONPRESENT)
                == ExternalPageTables.Result.DONE;
    }
}
