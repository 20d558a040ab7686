package cloister.kvm.mmu;

import cloister.kvm.host.GuestMemFile;
import cloister.spec.kvm.KvmAbi;

/// `struct kvm_memory_slot`. What it maps never changes: a slot that moves, goes or gets other flags is replaced by another object.
/// The dirty bitmap and what is known of large pages pass from object to object.
public final class MemSlot implements GuestMemFile.Binding {
    /// The slot is about to be deleted or moved: nothing more may be mapped through it. (KVM_MEMSLOT_INVALID)
    static final int INVALID = 1 << 16;
    /// Shared accesses go to the guest_memfd too, because the VMM can map it. (KVM_MEMSLOT_GMEM_ONLY)
    static final int GMEM_ONLY = 1 << 17;
    private static final int PAGE_SHIFT = 12;

    private final int id;
    private final int addressSpace;
    private final long baseGfn;
    private final long npages;
    private final long userspaceAddr;
    private final int flags;
    private final long gmemPgoff;
    /// Cleared when the file is released while the slot is still there.
    private GuestMemFile gmem;
    /// One bit for each page that was written; null while dirty logging is off or goes to rings only.
    private long[] dirtyBitmap;
    /// For 2 MiB and 1 GiB: how many reasons beside alignment keep a large page away; made when there is the first.
    private final short[][] disallowed;
    /// What shadow paging knows of the slot.
    private final SlotShadow shadow;

    MemSlot(int addressSpace, int id, long baseGfn, long npages, long userspaceAddr, int flags, GuestMemFile gmem, long gmemPgoff) {
        this(addressSpace, id, baseGfn, npages, userspaceAddr, flags, gmem, gmemPgoff, new short[Mmu.MAX_HUGE_PAGE_LEVEL - 1][],
                new SlotShadow(baseGfn, npages));
    }

    private MemSlot(int addressSpace, int id, long baseGfn, long npages, long userspaceAddr, int flags, GuestMemFile gmem,
                    long gmemPgoff, short[][] disallowed, SlotShadow shadow) {
        this.addressSpace = addressSpace;
        this.id = id;
        this.baseGfn = baseGfn;
        this.npages = npages;
        this.userspaceAddr = userspaceAddr;
        this.flags = flags;
        this.gmem = gmem;
        this.gmemPgoff = gmemPgoff;
        this.disallowed = disallowed;
        this.shadow = shadow;
    }

    /// The same slot on its way out.
    MemSlot invalid() {
        var copy = new MemSlot(addressSpace, id, baseGfn, npages, userspaceAddr, flags | INVALID, gmem, gmemPgoff, disallowed,
                shadow);
        copy.dirtyBitmap = dirtyBitmap;
        return copy;
    }

    /// The same slot with other flags.
    MemSlot withFlags(int newFlags) {
        return new MemSlot(addressSpace, id, baseGfn, npages, userspaceAddr, newFlags, gmem, gmemPgoff, disallowed, shadow);
    }

    /// The slot's number within its address space.
    public int id() {
        return id;
    }

    /// 0, or 1 for system-management mode.
    public int addressSpace() {
        return addressSpace;
    }

    /// The first guest frame.
    public long baseGfn() {
        return baseGfn;
    }

    /// Length in pages, at least 1.
    @Override public long npages() {
        return npages;
    }

    /// The first guest frame after the slot.
    public long endGfn() {
        return baseGfn + npages;
    }

    /// The address of the first page in the VMM's memory.
    public long userspaceAddr() {
        return userspaceAddr;
    }

    /// MEM_ bits of [KvmAbi], and what KVM adds.
    int flags() {
        return flags;
    }

    /// Whether guest frame `gfn` lies in the slot.
    public boolean contains(long gfn) {
        return gfn >= baseGfn && gfn < baseGfn + npages;
    }

    /// The VMM's address of guest frame `gfn`.
    public long hva(long gfn) {
        return userspaceAddr + ((gfn - baseGfn) << PAGE_SHIFT);
    }

    /// The first guest frame of the slot that user addresses from `start` on can be behind.
    long firstGfn(long start) {
        return baseGfn + (Math.max(0, start - userspaceAddr) >>> PAGE_SHIFT);
    }

    /// The guest frame after the last one of the slot that user addresses before `end` can be behind.
    long endGfn(long end) {
        long pages = (end - userspaceAddr + (1L << PAGE_SHIFT) - 1) >> PAGE_SHIFT;
        return baseGfn + Math.min(npages, pages);
    }

    /// The guest_memfd bound to the slot; null when there is none, or no longer.
    public GuestMemFile gmem() {
        return gmem;
    }

    /// The page index in the guest_memfd of the slot's first page.
    @Override public long gmemPgoff() {
        return gmemPgoff;
    }

    /// The page index in the guest_memfd of guest frame `gfn`.
    public long gmemIndex(long gfn) {
        return gmemPgoff + gfn - baseGfn;
    }

    @Override public void forgetGmem() {
        gmem = null;
    }

    /// Whether shared accesses go to the guest_memfd.
    boolean gmemOnly() {
        return (flags & GMEM_ONLY) != 0;
    }

    /// Whether writes go to the VMM.
    public boolean readOnly() {
        return (flags & KvmAbi.MEM_READONLY) != 0;
    }

    /// Whether the slot is being deleted or moved.
    public boolean isInvalid() {
        return (flags & INVALID) != 0;
    }

    /// Whether writes are logged. [LINUX kvm_slot_dirty_track_enabled]
    public boolean logsDirtyPages() {
        return (flags & KvmAbi.MEM_LOG_DIRTY_PAGES) != 0;
    }

    /// The number by which dirty rings name the slot.
    int ringSlot() {
        return (addressSpace << 16) | id;
    }

    long[] dirtyBitmap() {
        return dirtyBitmap;
    }

    void dirtyBitmap(long[] bitmap) {
        dirtyBitmap = bitmap;
    }

    /// Longs of a bitmap of the slot's pages.
    int bitmapLength() {
        return (int) ((npages + Long.SIZE - 1) / Long.SIZE);
    }

    void markDirty(long gfn) {
        long index = gfn - baseGfn;
        dirtyBitmap[(int) (index / Long.SIZE)] |= 1L << index;
    }

    SlotShadow shadow() {
        return shadow;
    }

    // --- large pages

    /// Whether alignment and length allow a page of `level` at `gfn`: it lies in the slot, and guest and user addresses are congruent.
    /// [LINUX kvm_alloc_memslot_metadata]
    boolean fits(long gfn, int level) {
        long span = PageTables.span(level);
        long first = gfn & -span;
        return first >= baseGfn && first + span <= baseGfn + npages && ((baseGfn ^ (userspaceAddr >>> PAGE_SHIFT)) & (span - 1)) == 0;
    }

    /// Whether a large page of `level` may be at `gfn`, attributes aside.
    boolean allowsLargePage(long gfn, int level) {
        var counts = disallowed[level - 2];
        return fits(gfn, level) && (counts == null || counts[largeIndex(gfn, level)] == 0);
    }

    /// Keeps large pages away from `gfn`, or ends one such reason: shadow page tables of the guest are there. [LINUX
    /// kvm_mmu_gfn_disallow_lpage, kvm_mmu_gfn_allow_lpage]
    void disallowLargePages(long gfn, int delta) {
        for (int level = 2; level <= Mmu.MAX_HUGE_PAGE_LEVEL; level++) {
            if (disallowed[level - 2] == null) {
                disallowed[level - 2] = new short[largeIndex(endGfn() - 1, level) + 1];
            }
            disallowed[level - 2][largeIndex(gfn, level)] += (short) delta;
        }
    }

    private int largeIndex(long gfn, int level) {
        int shift = 9 * (level - 1);
        return (int) ((gfn >>> shift) - (baseGfn >>> shift));
    }

    @Override public String toString() {
        return "slot " + id + " of address space " + addressSpace + ": gfns 0x" + Long.toHexString(baseGfn) + "+0x"
                + Long.toHexString(npages) + (isInvalid() ? " (going)" : "");
    }
}
