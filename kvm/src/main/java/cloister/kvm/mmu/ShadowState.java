package cloister.kvm.mmu;

/// What KVM knows of a shadow page beside what it knows of every page of tables. [LINUX struct kvm_mmu_page]
final class ShadowState {
    private static final int ACCESS_BITS = 5;

    /// Guest frame and access of each leaf, of pages that shadow a table; null where the frames follow from the page's own.
    private final long[] translations;
    /// The entries that link the page, a list of [EntryLists].
    long parents;
    /// The guest may have changed the table since the page was made: only smallest tables.
    boolean unsync;
    /// How many of [#unsyncBits] are set.
    int unsyncChildren;
    /// Entries below which there are unsync pages.
    final long[] unsyncBits = new long[PageTables.ENTRIES / Long.SIZE];
    /// Writes to the table since the page was last used for a fault.
    int writeFlood;
    int generation;
    MmuPage nextInBucket;
    MmuPage older;
    MmuPage newer;

    ShadowState(boolean direct, int generation) {
        this.translations = direct ? null : new long[PageTables.ENTRIES];
        this.generation = generation;
    }

    /// The guest frame that entry `index` maps.
    static long gfn(MmuPage page, int index) {
        var translations = page.shadow.translations;
        return translations != null ? translations[index] >>> ACCESS_BITS : page.gfn + (index * PageTables.span(page.level()));
    }

    /// What the guest's tables allow there.
    static int access(MmuPage page, int index) {
        var translations = page.shadow.translations;
        return translations != null ? (int) translations[index] & ((1 << ACCESS_BITS) - 1) : MmuRole.access(page.role);
    }

    void translation(int index, long gfn, int access) {
        if (translations != null) {
            translations[index] = (gfn << ACCESS_BITS) | access;
        }
    }

    boolean mark(int index) {
        long bit = 1L << index;
        if ((unsyncBits[index >>> 6] & bit) != 0) {
            return false;
        }
        unsyncBits[index >>> 6] |= bit;
        unsyncChildren++;
        return true;
    }

    void unmark(int index) {
        long bit = 1L << index;
        if ((unsyncBits[index >>> 6] & bit) != 0) {
            unsyncBits[index >>> 6] &= ~bit;
            unsyncChildren--;
        }
    }
}
