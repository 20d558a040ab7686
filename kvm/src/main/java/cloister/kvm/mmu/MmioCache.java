package cloister.kvm.mmu;

/// Where one vCPU's last access to MMIO went, so that the next one there needs no walk. It holds for the slots of that time: their
/// generation ages it out. [LINUX vcpu_cache_mmio_info, vcpu_match_mmio_gpa]
final class MmioCache {
    private static final long PAGE = -(1L << Mmu.PAGE_SHIFT);

    /// The page of the linear address, 0 when there is none: where tables are indexed by guest-physical address, or after it was dropped.
    private long gva;
    /// 0 stands for nothing: frame 0 is never remembered.
    private long gfn;
    private int access;
    private long generation;

    /// Remembers an access, unless the slots are being changed: it may have been judged by the old ones.
    ///
    /// @param faultGva linear address, 0 for none
    /// @param mmioAccess what the guest's own tables allowed: ACCESS_ bits of [Spte]
    void remember(long faultGva, long mmioGfn, int mmioAccess, long slotsGeneration) {
        if ((slotsGeneration & MemSlotSet.UPDATE_IN_PROGRESS) != 0) {
            return;
        }
        gva = faultGva & PAGE;
        gfn = mmioGfn;
        access = mmioAccess;
        generation = slotsGeneration;
    }

    /// Whether `gpa` is in the page.
    boolean hasGpa(long gpa, long slotsGeneration) {
        return generation == slotsGeneration && gfn != 0 && gfn == gpa >>> Mmu.PAGE_SHIFT;
    }

    /// Whether linear address `address` is in the page.
    boolean hasGva(long address, long slotsGeneration) {
        return generation == slotsGeneration && gva != 0 && gva == (address & PAGE);
    }

    /// The guest frame of the page.
    long gfn() {
        return gfn;
    }

    /// What the guest's own tables allowed.
    int access() {
        return access;
    }

    /// The translation of linear address `address` is not valid any more. [LINUX vcpu_clear_mmio_info]
    void dropGva(long address) {
        if (gva == (address & PAGE)) {
            gva = 0;
        }
    }

    /// No translation of linear addresses is valid any more; where guest-physical addresses go does not depend on them.
    void dropGvas() {
        gva = 0;
    }
}
