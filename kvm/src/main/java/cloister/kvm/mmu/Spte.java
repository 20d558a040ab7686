package cloister.kvm.mmu;

import cloister.spec.vmx.Ept;

/// Shadow page-table entries of two-dimensional paging: the architectural EPT word plus software bits. [LINUX
/// arch/x86/kvm/mmu/spte.h]
public final class Spte {
    /// Empty entries suppress #VE, so that a TD's shared EPT violations reach KVM. (SHADOW_NONPRESENT_VALUE)
    public static final long NONPRESENT = Ept.SUPPRESS_VE;
    /// An entry that one thread has taken out to change it. (FROZEN_SPTE)
    public static final long FROZEN = NONPRESENT | 0x1a0L;
    /// Software bit: the entry is present for the MMU. (SPTE_MMU_PRESENT_MASK)
    public static final long MMU_PRESENT = 1L << 11;
    /// An MMIO entry of an ordinary VM: writable and executable but not readable, a misconfiguration.
    public static final long MMIO_VALUE = Ept.WRITE | Ept.EXECUTE | Ept.SUPPRESS_VE;
    /// The bits that tell an MMIO entry from others.
    public static final long MMIO_MASK = Ept.PERMISSIONS | Ept.SUPPRESS_VE;
    /// An MMIO entry of a TD: not present and #VE not suppressed.
    public static final long TD_MMIO_VALUE = 0;

    private static final int GENERATION_LOW_SHIFT = 3;
    private static final int GENERATION_LOW_BITS = 8;
    private static final int GENERATION_HIGH_SHIFT = 52;
    private static final int GENERATION_HIGH_BITS = 11;
    private static final long GENERATION_MASK = (1L << (GENERATION_LOW_BITS + GENERATION_HIGH_BITS)) - 1;

    private Spte() {
    }

    /// A leaf entry for memory.
    ///
    /// @param pa       physical address of the page
    /// @param level    1 for 4 KiB, 2 for 2 MiB
    /// @param writable whether the guest may write
    /// @param ignorePat whether the guest's PAT is ignored
    public static long leaf(long pa, int level, boolean writable, boolean ignorePat) {
        long spte = pa | Ept.READ | Ept.EXECUTE | Ept.ACCESSED | MMU_PRESENT | Ept.SUPPRESS_VE
                | ((long) Ept.TYPE_WB << Ept.MEMORY_TYPE_SHIFT);
        if (writable) {
            spte |= Ept.WRITE | Ept.DIRTY;
        }
        if (ignorePat) {
            spte |= Ept.IGNORE_PAT;
        }
        return level > 1 ? spte | Ept.LARGE : spte;
    }

    /// An entry that links a lower table.
    public static long nonLeaf(long tablePa) {
        return tablePa | Ept.PERMISSIONS | Ept.ACCESSED | MMU_PRESENT;
    }

    /// An MMIO entry of an ordinary VM with the slots' generation.
    public static long mmio(long gpa, long generation) {
        long g = generation & GENERATION_MASK;
        return MMIO_VALUE | (gpa & Ept.ADDRESS)
                | ((g & ((1L << GENERATION_LOW_BITS) - 1)) << GENERATION_LOW_SHIFT)
                | (g >>> GENERATION_LOW_BITS << GENERATION_HIGH_SHIFT);
    }

    /// Whether `spte` is an MMIO entry of an ordinary VM.
    public static boolean isMmio(long spte) {
        return (spte & MMIO_MASK) == MMIO_VALUE;
    }

    /// Whether an MMIO entry belongs to the slots' generation.
    public static boolean isCurrentMmio(long spte, long generation) {
        long g = ((spte >>> GENERATION_LOW_SHIFT) & ((1L << GENERATION_LOW_BITS) - 1))
                | (((spte >>> GENERATION_HIGH_SHIFT) & ((1L << GENERATION_HIGH_BITS) - 1)) << GENERATION_LOW_BITS);
        return g == (generation & GENERATION_MASK);
    }

    /// Whether the entry maps or links something.
    public static boolean isPresent(long spte) {
        return (spte & MMU_PRESENT) != 0 && !isMmio(spte);
    }

    /// Whether a present entry maps memory.
    public static boolean isLeaf(long spte, int level) {
        return level == 1 || (spte & Ept.LARGE) != 0;
    }

    /// The address in the entry.
    public static long address(long spte) {
        return spte & Ept.ADDRESS;
    }
}
