package cloister.kvm.mmu;

/// What shadow paging knows of a memory slot: which entries map its frames, and which frames hold tables that must not change unseen.
/// [LINUX struct kvm_arch_memory_slot]
final class SlotShadow {
    private final long baseGfn;
    private final long npages;
    /// For each level a list of [EntryLists] for each page; made when there is the first entry.
    private final long[][] lists = new long[Mmu.MAX_HUGE_PAGE_LEVEL][];
    private short[] tracked;

    SlotShadow(long baseGfn, long npages) {
        this.baseGfn = baseGfn;
        this.npages = npages;
    }

    private int index(long gfn, int level) {
        int shift = 9 * (level - 1);
        return (int) ((gfn >>> shift) - (baseGfn >>> shift));
    }

    /// The entries of `level` that map `gfn`.
    long list(long gfn, int level) {
        var ofLevel = lists[level - 1];
        return ofLevel == null ? 0 : ofLevel[index(gfn, level)];
    }

    void list(long gfn, int level, long list) {
        if (lists[level - 1] == null) {
            lists[level - 1] = new long[index(baseGfn + npages - 1, level) + 1];
        }
        lists[level - 1][index(gfn, level)] = list;
    }

    boolean hasEntries(int level) {
        return lists[level - 1] != null;
    }

    /// Whether writes to `gfn` must be emulated. [LINUX kvm_gfn_is_write_tracked]
    boolean isTracked(long gfn) {
        return tracked != null && tracked[(int) (gfn - baseGfn)] != 0;
    }

    void track(long gfn, int delta) {
        if (tracked == null) {
            tracked = new short[(int) npages];
        }
        tracked[(int) (gfn - baseGfn)] += (short) delta;
    }
}
