package cloister.kvm.mmu;

/// One access that the page tables did not let through, while it is being handled; each vCPU has one and uses it again. [LINUX struct
/// kvm_page_fault]
final class PageFault {
    /// The access was to a page that an entry maps.
    static final long ERROR_PRESENT = 1;
    static final long ERROR_WRITE = 1 << 1;
    static final long ERROR_USER = 1 << 2;
    /// A reserved bit was set: an entry for MMIO.
    static final long ERROR_RESERVED = 1 << 3;
    static final long ERROR_FETCH = 1 << 4;
    /// An explicit supervisor access with RFLAGS.AC: CR4.SMAP does not apply to it. (KVM's own)
    static final long ERROR_ALLOWS_USER = 1L << 48;
    /// The access goes to private memory. (PFERR_PRIVATE_ACCESS; KVM's own)
    static final long ERROR_PRIVATE = 1L << 49;

    long gfn;
    MemSlot slot;
    boolean write;
    boolean fetch;
    boolean present;
    boolean reserved;
    boolean isPrivate;
    /// Nobody waits for this access: the entry is made without the accessed flag.
    boolean prefetch;
    boolean nxHugePages;
    boolean hugePageDisallowed;
    int maxLevel;
    int requestedLevel;
    int goalLevel;
    /// The sequence of invalidations before the page was looked up.
    long invalidationSequence;
    /// The physical address behind, aligned to the goal level.
    long pa;
    boolean mayWrite;
    boolean hostMmio;
    /// The page holds tables of the guest that must not change unseen.
    boolean writeProtected;

    void start(long error, boolean isPrefetch, boolean noExecutableHugePages) {
        write = (error & ERROR_WRITE) != 0;
        fetch = (error & ERROR_FETCH) != 0;
        present = (error & ERROR_PRESENT) != 0;
        reserved = (error & ERROR_RESERVED) != 0;
        isPrivate = (error & ERROR_PRIVATE) != 0;
        prefetch = isPrefetch;
        nxHugePages = noExecutableHugePages;
        hugePageDisallowed = false;
        maxLevel = Mmu.MAX_HUGE_PAGE_LEVEL;
        requestedLevel = 1;
        goalLevel = 1;
        pa = 0;
        mayWrite = false;
        hostMmio = false;
        writeProtected = false;
        slot = null;
    }

    /// The access as one ACCESS_ bit of [Spte].
    int access() {
        return fetch ? Spte.ACCESS_EXECUTE : write ? Spte.ACCESS_WRITE : Spte.ACCESS_READ;
    }
}
