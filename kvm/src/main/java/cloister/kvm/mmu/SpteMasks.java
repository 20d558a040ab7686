package cloister.kvm.mmu;

import cloister.spec.vmx.Ept;

/// Which bit of an entry means what: set by vendor code when the module is loaded, for all VMs. [LINUX shadow_ variables of
/// arch/x86/kvm/mmu/spte.c]
public final class SpteMasks {
    private static final long PAGING_PRESENT = 1;
    private static final long PAGING_USER = 1 << 2;
    private static final long PAGING_ACCESSED = 1 << 5;
    private static final long PAGING_DIRTY = 1 << 6;
    private static final long PAGING_NO_EXECUTE = 1L << 63;
    private static final int MAX_ADDRESS_BITS = 52;

    private final int maxPhyAddr;
    /// The module's parameter as it was when the module was loaded; [#mmioCaching] is what came of it.
    private final boolean mmioCachingAllowed;
    private final MmioParameter mmioParameter;
    private boolean ept;
    private boolean accessedDirty;
    private boolean mmioCaching;
    private long accessed;
    private long dirty;
    private long noExecute;
    private long execute;
    private long userExecute;
    private long user;
    private long present;
    private long accessTrack;
    private long hostWritable;
    private long mmuWritable;
    private long encryptionValue;
    private long encryptionMask;
    private long mmioValue;
    private long mmioMask;
    private int mmioAccess;

    /// As upstream decides about MMIO.
    SpteMasks(int maxPhyAddr, boolean mmioCachingAllowed) {
        this(maxPhyAddr, mmioCachingAllowed, MmioParameter.SNAPSHOT);
    }

    /// The masks of legacy tables, until vendor code says otherwise. [LINUX kvm_mmu_spte_module_init, kvm_mmu_reset_all_pte_masks]
    ///
    /// @param maxPhyAddr         CPUID 80000008 EAX 7:0 of the host, KeyID bits included
    /// @param mmioCachingAllowed the parameter mmio_caching
    /// @param mmioParameter      what becomes of that parameter when masks change
    public SpteMasks(int maxPhyAddr, boolean mmioCachingAllowed, MmioParameter mmioParameter) {
        this.maxPhyAddr = maxPhyAddr;
        this.mmioCachingAllowed = mmioCachingAllowed;
        this.mmioParameter = mmioParameter;
        this.mmioCaching = mmioCachingAllowed;
        usePaging();
    }

    /// Masks of legacy tables, which also are in place before vendor code of any kind is loaded.
    public void usePaging() {
        ept = false;
        accessedDirty = true;
        user = PAGING_USER;
        accessed = PAGING_ACCESSED;
        dirty = PAGING_DIRTY;
        noExecute = PAGING_NO_EXECUTE;
        execute = 0;
        userExecute = 0;
        present = PAGING_PRESENT;
        accessTrack = 0;
        hostWritable = Spte.PAGING_HOST_WRITABLE;
        mmuWritable = Spte.PAGING_MMU_WRITABLE;
        encryptionValue = 0;
        encryptionMask = 0;
        if (mmioParameter == MmioParameter.VENDOR_SETS) {
            mmioValue = 0;
            mmioMask = 0;
            mmioAccess = 0;
            mmioCaching = false;
        } else {
            mmioByReservedBit();
        }
    }

    /// MMIO entries of legacy tables have a reserved address bit, of which a processor with 52 address bits has none left.
    public void mmioByReservedBit() {
        long mark = maxPhyAddr < MAX_ADDRESS_BITS ? (1L << (MAX_ADDRESS_BITS - 1)) | PAGING_PRESENT : 0;
        mmio(mark, mark, Spte.ACCESS_WRITE | Spte.ACCESS_USER);
    }

    /// Masks of EPT. [LINUX kvm_mmu_set_ept_masks]
    ///
    /// @param hasAccessedDirty whether the processor keeps accessed and dirty flags in EPT
    public void useEpt(boolean hasAccessedDirty) {
        ept = true;
        accessedDirty = hasAccessedDirty;
        user = 0;
        accessed = hasAccessedDirty ? Ept.ACCESSED : 0;
        dirty = hasAccessedDirty ? Ept.DIRTY : 0;
        noExecute = 0;
        execute = Ept.EXECUTE;
        userExecute = Ept.USER_EXECUTE;
        present = Ept.SUPPRESS_VE;
        accessTrack = Ept.PERMISSIONS | Ept.USER_EXECUTE;
        hostWritable = Spte.EPT_HOST_WRITABLE;
        mmuWritable = Spte.EPT_MMU_WRITABLE;
        // Writable and not readable is a misconfiguration, which costs no walk of ours to recognise.
        mmio(Ept.WRITE | Ept.EXECUTE, Ept.PERMISSIONS | Ept.SUPPRESS_VE, 0);
    }

    /// The memory-encryption bits of addresses. [LINUX kvm_mmu_set_me_spte_mask]
    ///
    /// @param value what entries of memory get
    /// @param mask  the bits that are no address; contains `value`
    public void encryption(long value, long mask) {
        encryptionMask = (value & ~mask) == 0 ? mask : 0;
        encryptionValue = (value & ~mask) == 0 ? value : 0;
    }

    /// A part with memory encryption marks MMIO entries of legacy tables with all reserved address bits up to 51; the encryption bit is
    /// none of them, although it may lie beyond the addresses. [LINUX svm_adjust_mmio_mask]
    ///
    /// @param bit         the encryption bit
    /// @param addressBits what is left of the physical-address width with encryption on
    public void mmioBesideEncryptionBit(int bit, int addressBits) {
        int first = addressBits == bit ? bit + 1 : addressBits;
        long mark = first < MAX_ADDRESS_BITS ? ((1L << MAX_ADDRESS_BITS) - (1L << first)) | PAGING_PRESENT : 0;
        mmio(mark, mark, Spte.ACCESS_WRITE | Spte.ACCESS_USER);
    }

    /// Sets the mark of MMIO entries and decides anew whether MMIO is cached at all. [LINUX kvm_mmu_set_mmio_spte_mask]
    ///
    /// @param value  0 turns caching off
    /// @param mask   the bits to compare with `value`
    /// @param access the access rights that an entry remembers
    public void mmio(long value, long mask, int access) {
        boolean wanted = mmioParameter == MmioParameter.CLEARED_FOR_GOOD ? mmioCaching : mmioCachingAllowed;
        long mark = wanted ? value : 0;
        if ((mask & ~Spte.MMIO_ALLOWED) != 0 || (mark & ~mask) != 0 || (Spte.FROZEN & mask) == mark) {
            mark = 0;
        }
        mmioCaching = mark != 0;
        mmioValue = mark;
        mmioMask = mask;
        mmioAccess = access;
    }

    /// Whether accesses to MMIO are recognised by their entry.
    public boolean mmioCaching() {
        return mmioCaching;
    }

    /// The mark of MMIO entries that VMs start with.
    public long mmioValue() {
        return mmioValue;
    }

    /// The guest-physical address in an MMIO entry: what its mark leaves of the address field. [LINUX get_mmio_spte_gfn]
    long mmioGpa(long spte) {
        return spte & Ept.ADDRESS & ~mmioMask;
    }

    /// Whether guests' memory is mapped by EPT.
    public boolean usesEpt() {
        return ept;
    }

    /// Whether the masks are EPT's.
    boolean isEpt() {
        return ept;
    }

    /// Whether the processor keeps accessed and dirty flags.
    public boolean accessedDirty() {
        return accessedDirty;
    }

    /// CPUID 80000008 EAX 7:0 of the host.
    int maxPhyAddr() {
        return maxPhyAddr;
    }

    long accessedBit() {
        return accessed;
    }

    long dirtyBit() {
        return dirty;
    }

    long mmuWritableBit() {
        return mmuWritable;
    }

    // --- entries

    /// An entry that links the table at `tablePa`.
    long nonLeaf(long tablePa, boolean adDisabled) {
        return Spte.MMU_PRESENT | tablePa | present | Spte.WRITABLE | Spte.READABLE | user | execute | userExecute | encryptionValue
                | (adDisabled ? Spte.AD_DISABLED : accessed);
    }

    /// The bits of a leaf entry for `access`.
    long permissions(int access) {
        long bits = (access & Spte.ACCESS_READ) != 0 ? Spte.READABLE : 0;
        if (noExecute != 0) {
            bits |= (access & Spte.ACCESS_EXECUTE) != 0 ? 0 : noExecute;
            bits |= (access & Spte.ACCESS_USER) != 0 ? user : 0;
        } else {
            bits |= (access & Spte.ACCESS_EXECUTE) != 0 ? execute : 0;
            bits |= (access & Spte.ACCESS_USER_EXECUTE) != 0 ? userExecute : 0;
        }
        return bits;
    }

    /// A leaf entry, without W and its companions, see [#writable]. [LINUX make_spte]
    ///
    /// @param adType     0, [Spte#AD_DISABLED] or [Spte#AD_WRITE_PROTECT_ONLY]
    /// @param access     ACCESS_ bits of [Spte]
    /// @param typeBits   memory type, already in place
    /// @param hostMmio   the page is no memory
    /// @param accessed   whether somebody accesses the page now, rather than later
    long leaf(long pa, int level, long adType, int access, long typeBits, boolean hostMmio, boolean hostMayWrite, boolean accessed) {
        long spte = Spte.MMU_PRESENT | adType | present | permissions(access) | typeBits | pa;
        if (accessed) {
            spte |= this.accessed;
        }
        if (level > 1) {
            spte |= Ept.LARGE;
        }
        if (hostMayWrite) {
            spte |= hostWritable;
        }
        return hostMmio ? spte : spte | encryptionValue;
    }

    /// A leaf entry made writable.
    long writable(long spte) {
        return spte | Spte.WRITABLE | mmuWritable | dirty;
    }

    /// An entry for MMIO.
    ///
    /// @param vmValue the VM's mark
    long mmio(long vmValue, long gpa, long generation, int access) {
        long rights = ept ? 0 : permissions(access & mmioAccess) & ~Spte.READABLE & ~noExecute;
        long write = (access & mmioAccess & Spte.ACCESS_WRITE) != 0 ? Spte.WRITABLE : 0;
        return vmValue | gpa | Spte.generationBits(generation & Spte.GENERATION_MASK) | rights | (ept ? 0 : write);
    }

    /// Whether `spte` is an entry for MMIO of a VM whose mark is `vmValue`.
    boolean isMmio(long spte, long vmValue) {
        return mmioCaching && (spte & mmioMask) == vmValue;
    }

    /// Whether `spte` lets `access` (one ACCESS_ bit) through.
    boolean allows(long spte, int access) {
        if (access == Spte.ACCESS_WRITE) {
            return Spte.isWritable(spte);
        }
        if (access == Spte.ACCESS_EXECUTE) {
            return noExecute != 0 ? (spte & noExecute) == 0 : (spte & execute) != 0;
        }
        return (spte & Spte.READABLE) != 0;
    }

    boolean isMmuWritable(long spte) {
        return (spte & mmuWritable) != 0;
    }

    // --- seeing accesses

    /// Whether the entry was made inaccessible to see the next access.
    boolean isAccessTracked(long spte) {
        return !Spte.hasAccessedDirty(spte) && (spte & accessTrack) == 0;
    }

    /// Whether somebody accessed the page since the entry was last aged.
    boolean isAccessed(long spte) {
        return Spte.hasAccessedDirty(spte) ? (spte & accessed) != 0 : !isAccessTracked(spte);
    }

    /// The entry as it must be to see the next access: without the accessed flag, or inaccessible with its rights saved. W is not
    /// saved: who writes next is to be seen by dirty logging too. [LINUX mark_spte_for_access_track]
    long aged(long spte) {
        if (Spte.hasAccessedDirty(spte)) {
            return spte & ~accessed;
        }
        if (isAccessTracked(spte)) {
            return spte;
        }
        long saved = ((spte & Ept.READ) != 0 ? Spte.SAVED_READ : 0) | ((spte & Ept.EXECUTE) != 0 ? Spte.SAVED_EXECUTE : 0)
                | ((spte & Ept.USER_EXECUTE) != 0 ? Spte.SAVED_USER_EXECUTE : 0);
        return (spte & ~accessTrack) | saved;
    }

    /// The entry with its rights back.
    long restored(long spte) {
        long rights = ((spte & Spte.SAVED_READ) != 0 ? Ept.READ : 0) | ((spte & Spte.SAVED_EXECUTE) != 0 ? Ept.EXECUTE : 0)
                | ((spte & Spte.SAVED_USER_EXECUTE) != 0 ? Ept.USER_EXECUTE : 0);
        return (spte & ~(Spte.SAVED | accessTrack)) | rights;
    }

    /// Whether bits of the entry that must not be lost can change without mmu_lock. [LINUX spte_needs_atomic_update]
    boolean isVolatile(long spte) {
        if (!Spte.isWritable(spte) && isMmuWritable(spte)) {
            return true; // the fast path of faults may set W
        }
        if (!Spte.hasAccessedDirty(spte)) {
            return true; // the fast path may give the rights back
        }
        return Spte.isWritable(spte) && (spte & dirty) == 0; // the processor may set D
    }

    // --- large pages

    /// The entry of small page `index` within the large page of `largeSpte`.
    ///
    /// @param level of the small page
    /// @param nxHugePages whether large pages are not executable although small ones are
    /// @param access what the small page may do
    long small(long largeSpte, int level, int index, boolean nxHugePages, int access) {
        long spte = largeSpte | ((index * PageTables.span(level)) << 12);
        if (level > 1) {
            return spte;
        }
        spte &= ~Ept.LARGE;
        return nxHugePages ? withExecution(spte, access) : spte;
    }

    /// The entry of the large page of `level` that contains the page of `smallSpte`.
    long large(long smallSpte, int level, boolean nxHugePages) {
        long pageMask = (PageTables.span(level) << 12) - 1;
        long spte = (smallSpte & ~(Ept.ADDRESS & pageMask)) | Ept.LARGE;
        return nxHugePages ? withExecution(spte, 0) : spte;
    }

    private long withExecution(long spte, int access) {
        boolean tracked = isAccessTracked(spte);
        long plain = tracked ? restored(spte) : spte;
        plain &= ~(noExecute | execute | userExecute);
        plain |= permissions(access) & (noExecute | execute | userExecute);
        return tracked ? aged(plain) : plain;
    }

    // --- reserved bits

    /// The bits of a present entry at `level` that neither the processor ignores nor this package uses; 0 in every good entry.
    long reservedBits(long spte, int level) {
        long used = Spte.MMU_PRESENT | (Ept.ADDRESS & ((1L << maxPhyAddr) - 1)) | encryptionMask | present | Spte.WRITABLE | Spte.READABLE
                | user | noExecute | execute | userExecute | accessed | hostWritable | mmuWritable;
        if (ept) {
            used |= Spte.SAVED | Spte.AD_DISABLED | Spte.AD_WRITE_PROTECT_ONLY;
        }
        if (Spte.isLeaf(spte, level)) {
            used |= dirty | (ept ? (7L << Ept.MEMORY_TYPE_SHIFT) | Ept.IGNORE_PAT : 0);
            if (level > 1) {
                used = (used | Ept.LARGE) & ~(((PageTables.span(level) << 12) - 1) & Ept.ADDRESS);
            }
        }
        return spte & ~used;
    }
}
