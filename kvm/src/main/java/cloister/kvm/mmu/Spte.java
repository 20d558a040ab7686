package cloister.kvm.mmu;

import cloister.spec.vmx.Ept;

/// Shadow page-table entries: the architectural 64-bit word plus bits for software. [LINUX arch/x86/kvm/mmu/spte.h]
///
/// What a bit means to the processor depends on the tables, see [SpteMasks]. The software bits are ours to choose among those that
/// the processor ignores [SDM Vol. 3 "Format of an EPT Page-Table Entry"]:
///
/// | bits | use in a present entry of EPT |
/// |---|---|
/// | 11 | the entry is present for the MMU |
/// | 52, 53, 54 | read, execute and user-execute as they were before the entry was made inaccessible to see accesses |
/// | 55 | the host may write the page |
/// | 56 | the MMU allows writes; the W bit may be off only to see them |
/// | 59 | the processor keeps no accessed and dirty flags in this tree |
/// | 62 | writes are seen by write protection even where the processor has a dirty log |
///
/// Bits 57, 58, 60 and 61 have a meaning to newer processors and stay 0; 63 suppresses #VE. An entry for MMIO is not present for the
/// MMU: it holds the guest frame in 51:12 and the generation of the slots in 9:3 and 62:52.
public final class Spte {
    /// What an access or a page may do; the unit of access rights in this package.
    public static final int ACCESS_READ = 1;
    public static final int ACCESS_WRITE = 2;
    public static final int ACCESS_EXECUTE = 4;
    public static final int ACCESS_USER = 8;
    public static final int ACCESS_USER_EXECUTE = 16;
    public static final int ACCESS_ALL = 31;

    /// Empty entries suppress #VE, so that a TD's shared EPT violations reach KVM. (SHADOW_NONPRESENT_VALUE)
    public static final long NONPRESENT = Ept.SUPPRESS_VE;
    /// An entry that one thread has taken out to change it. (FROZEN_SPTE)
    public static final long FROZEN = NONPRESENT | 0x1a0L;
    /// The entry is present for the MMU. (SPTE_MMU_PRESENT_MASK)
    public static final long MMU_PRESENT = 1L << 11;
    /// Writable, in EPT and in legacy tables.
    static final long WRITABLE = Ept.WRITE;
    /// Readable in EPT, present in legacy tables.
    static final long READABLE = Ept.READ;

    static final int SAVED_SHIFT_READ = 52;
    static final long SAVED_READ = 1L << 52;
    static final long SAVED_EXECUTE = 1L << 53;
    static final long SAVED_USER_EXECUTE = 1L << 54;
    static final long SAVED = SAVED_READ | SAVED_EXECUTE | SAVED_USER_EXECUTE;
    static final long EPT_HOST_WRITABLE = 1L << 55;
    static final long EPT_MMU_WRITABLE = 1L << 56;
    /// Legacy tables have their high bits reserved or in use by protection keys; the ignored bits 9 and 10 serve there.
    static final long PAGING_HOST_WRITABLE = 1L << 9;
    static final long PAGING_MMU_WRITABLE = 1L << 10;
    static final long AD_DISABLED = 1L << 59;
    static final long AD_WRITE_PROTECT_ONLY = 1L << 62;

    private static final int GENERATION_LOW_SHIFT = 3;
    private static final int GENERATION_LOW_BITS = 7;
    private static final int GENERATION_HIGH_SHIFT = 52;
    private static final int GENERATION_HIGH_BITS = 11;
    /// The bits of the slots' generation that an MMIO entry keeps.
    static final long GENERATION_MASK = (1L << (GENERATION_LOW_BITS + GENERATION_HIGH_BITS)) - 1;
    private static final long GENERATION_LOW = ((1L << GENERATION_LOW_BITS) - 1) << GENERATION_LOW_SHIFT;
    private static final long GENERATION_HIGH = ((1L << GENERATION_HIGH_BITS) - 1) << GENERATION_HIGH_SHIFT;
    /// Where an MMIO entry may have its mark: not in the generation, not in the bit that says present for the MMU.
    static final long MMIO_ALLOWED = ~(GENERATION_LOW | GENERATION_HIGH | MMU_PRESENT);

    private Spte() {
    }

    /// Whether the entry maps or links something.
    public static boolean isPresent(long spte) {
        return (spte & MMU_PRESENT) != 0;
    }

    /// Whether a present entry maps memory.
    public static boolean isLeaf(long spte, int level) {
        return level == 1 || (spte & Ept.LARGE) != 0;
    }

    /// Whether a present entry maps a large page.
    static boolean isLarge(long spte) {
        return (spte & Ept.LARGE) != 0;
    }

    /// The address in the entry: a page of memory or a table.
    public static long address(long spte) {
        return spte & Ept.ADDRESS;
    }

    static boolean isWritable(long spte) {
        return (spte & WRITABLE) != 0;
    }

    /// The bits of an MMIO entry that hold `generation`.
    static long generationBits(long generation) {
        return ((generation << GENERATION_LOW_SHIFT) & GENERATION_LOW)
                | (((generation >>> GENERATION_LOW_BITS) << GENERATION_HIGH_SHIFT) & GENERATION_HIGH);
    }

    /// The generation in an MMIO entry.
    static long generation(long spte) {
        return ((spte & GENERATION_LOW) >>> GENERATION_LOW_SHIFT)
                | (((spte & GENERATION_HIGH) >>> GENERATION_HIGH_SHIFT) << GENERATION_LOW_BITS);
    }

    /// Whether the processor keeps accessed and dirty flags in the entry.
    static boolean hasAccessedDirty(long spte) {
        return (spte & AD_DISABLED) == 0;
    }

    /// Whether writes through the entry are seen by write protection only.
    static boolean needsWriteProtection(long spte) {
        return (spte & (AD_DISABLED | AD_WRITE_PROTECT_ONLY)) != 0;
    }
}
