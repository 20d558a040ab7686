package cloister.kvm.mmu;

import cloister.spec.vmx.Ept;
import cloister.spec.x86.Cr0;
import cloister.spec.x86.Cr4;
import cloister.spec.x86.Efer;
import cloister.spec.x86.PageFaultCode;
import cloister.spec.x86.Pte;

/// How a guest translates addresses: what of its control registers the meaning of its tables depends on. [LINUX union kvm_cpu_role]
///
/// @param kind          the form of its tables
/// @param noExecute     EFER.NXE
/// @param writeProtect  CR0.WP
/// @param smep          CR4.SMEP
/// @param smap          CR4.SMAP
/// @param largePages32  CR4.PSE
/// @param keys          CR4.PKE, in IA-32e mode
/// @param accessedDirty whether walks set accessed and dirty flags: always, but for EPT
/// @param executeOnly   whether EPT allows execution without reading
/// @param addressBits   the guest's physical address width
record GuestPaging(Kind kind, boolean noExecute, boolean writeProtect, boolean smep, boolean smap, boolean largePages32, boolean keys,
                   boolean accessedDirty, boolean executeOnly, int addressBits) {
    /// Forms of paging structures.
    enum Kind { NONE, BITS32, PAE, LEVELS4, LEVELS5, EPT4, EPT5 }

    private static final long ADDRESS32 = 0xffff_f000L;
    private static final long PAE_RESERVED = 0x7ff0_0000_0000_0000L;
    private static final long RESERVED_OF_4M = 1L << 21;
    private static final long KEY_MASK = 15;
    private static final int EPT_TYPE_MASK = 7;

    /// The paging that control registers choose. [LINUX kvm_calc_cpu_role]
    static GuestPaging legacy(long cr0, long cr4, long efer, int addressBits) {
        boolean longMode = (efer & Efer.LMA) != 0;
        var kind = (cr0 & Cr0.PG) == 0 ? Kind.NONE : longMode ? (cr4 & Cr4.LA57) != 0 ? Kind.LEVELS5 : Kind.LEVELS4
                : (cr4 & Cr4.PAE) != 0 ? Kind.PAE : Kind.BITS32;
        if (kind == Kind.NONE) {
            return new GuestPaging(kind, false, false, false, false, false, false, true, false, addressBits);
        }
        return new GuestPaging(kind, (efer & Efer.NXE) != 0, (cr0 & Cr0.WP) != 0, (cr4 & Cr4.SMEP) != 0, (cr4 & Cr4.SMAP) != 0,
                (cr4 & Cr4.PSE) != 0, longMode && (cr4 & Cr4.PKE) != 0, true, false, addressBits);
    }

    /// The EPT that a guest hypervisor uses for its guest. [LINUX kvm_calc_shadow_ept_root_page_role]
    static GuestPaging ept(long eptp, boolean executeOnly, int addressBits) {
        return new GuestPaging(Ept.levels(eptp) == 5 ? Kind.EPT5 : Kind.EPT4, true, true, false, false, false, false,
                (eptp & Ept.EPTP_ACCESSED_DIRTY) != 0, executeOnly, addressBits);
    }

    boolean translates() {
        return kind != Kind.NONE;
    }

    boolean isEpt() {
        return kind == Kind.EPT4 || kind == Kind.EPT5;
    }

    boolean isPae() {
        return kind == Kind.PAE;
    }

    /// The level of the first entry that is read from memory in a walk: PDPTEs of PAE paging are registers.
    int topLevel() {
        return switch (kind) {
            case NONE -> 0;
            case BITS32, PAE -> 2;
            case LEVELS4, EPT4 -> 4;
            case LEVELS5, EPT5 -> 5;
        };
    }

    /// The level of the shadow pages that roots are made of: 2 where the processor has four of them in PAE paging.
    int shadowRootLevel() {
        return translates() ? topLevel() : 2;
    }

    /// Whether the processor walks shadow pages with four or five levels, and not with PAE paging.
    boolean hasSingleRoot() {
        return topLevel() >= 4;
    }

    int entryBytes() {
        return kind == Kind.BITS32 ? 4 : 8;
    }

    /// log2 of the bytes that an entry of `level` covers.
    int shift(int level) {
        return 12 + ((kind == Kind.BITS32 ? 10 : 9) * (level - 1));
    }

    int index(long address, int level) {
        return (int) (address >>> shift(level)) & ((kind == Kind.BITS32 ? 1024 : 512) - 1);
    }

    boolean isPresent(long entry) {
        return isEpt() ? (entry & Ept.PERMISSIONS) != 0 : (entry & Pte.P) != 0;
    }

    boolean isLast(long entry, int level) {
        return level == 1 || ((entry & Pte.PS) != 0 && (kind != Kind.BITS32 || largePages32));
    }

    long accessedBit() {
        return !accessedDirty ? 0 : isEpt() ? Ept.ACCESSED : Pte.A;
    }

    long dirtyBit() {
        return !accessedDirty ? 0 : isEpt() ? Ept.DIRTY : Pte.D;
    }

    /// The guest frame of the table that an entry links.
    long tableGfn(long entry) {
        return (entry & (kind == Kind.BITS32 ? ADDRESS32 : Ept.ADDRESS)) >>> 12;
    }

    /// The guest frame at `address` in the page of a last entry.
    long pageGfn(long entry, int level, long address) {
        long offset = (1L << shift(level)) - 1;
        long page = kind != Kind.BITS32 ? entry & Ept.ADDRESS
                // A 4 MiB page has address bits 39:32 in bits 20:13. DEVIATION: Linux knows 36 bits there, the processor 40.
                : level == 2 ? (entry & 0xffc0_0000L) | ((entry & 0x1f_e000L) << 19) : entry & ADDRESS32;
        return ((page & ~offset) | (address & offset)) >>> 12;
    }

    /// What an entry allows, as ACCESS_ bits of [Spte]. [LINUX FNAME(gpte_access)]
    int access(long entry) {
        if (isEpt()) {
            int execute = (entry & Ept.EXECUTE) != 0 ? Spte.ACCESS_EXECUTE | Spte.ACCESS_USER_EXECUTE : 0;
            return ((entry & Ept.READ) != 0 ? Spte.ACCESS_READ : 0) | ((entry & Ept.WRITE) != 0 ? Spte.ACCESS_WRITE : 0) | execute
                    | Spte.ACCESS_USER;
        }
        boolean execute = kind == Kind.BITS32 || (entry & Pte.XD) == 0;
        return Spte.ACCESS_READ | ((entry & Pte.W) != 0 ? Spte.ACCESS_WRITE : 0) | ((entry & Pte.U) != 0 ? Spte.ACCESS_USER : 0)
                | (execute ? Spte.ACCESS_EXECUTE | Spte.ACCESS_USER_EXECUTE : 0);
    }

    /// `access` without writing as long as the dirty flag is not set: the write that sets it must be seen. [LINUX
    /// FNAME(protect_clean_gpte)]
    int withoutCleanWrites(int access, long entry) {
        return !accessedDirty || (entry & dirtyBit()) != 0 ? access : access & ~Spte.ACCESS_WRITE;
    }

    // --- reserved bits [LINUX __reset_rsvds_bits_mask, __reset_rsvds_bits_mask_ept]

    boolean isReserved(long entry, int level) {
        boolean last = isLast(entry, level);
        if (kind == Kind.BITS32) {
            return level == 2 && last && (entry & RESERVED_OF_4M) != 0;
        }
        long reserved = Ept.ADDRESS & -(1L << addressBits);
        if (last && level > 1) {
            reserved |= level > 3 ? Pte.PS : ((1L << shift(level)) - 1) & Ept.ADDRESS & (isEpt() ? -1 : ~(1L << 12));
        }
        if (isEpt()) {
            return (entry & (reserved | (last ? 0 : 0x78))) != 0 || isBadEpt(entry, last);
        }
        return (entry & (reserved | (noExecute ? 0 : Pte.XD) | (isPae() ? PAE_RESERVED : 0))) != 0;
    }

    /// Memory types 2, 3 and 7, writable without readable, and executable alone where the processor has no such pages.
    private boolean isBadEpt(long entry, boolean last) {
        int type = (int) (entry >>> Ept.MEMORY_TYPE_SHIFT) & EPT_TYPE_MASK;
        boolean badType = last && (type == 2 || type == 3 || type == 7);
        long rights = entry & Ept.PERMISSIONS;
        return badType || (rights & (Ept.READ | Ept.WRITE)) == Ept.WRITE || (rights == Ept.EXECUTE && !executeOnly);
    }

    // --- permission [LINUX permission_fault, update_permission_bitmask, update_pkru_bitmask]

    /// Whether an access is refused.
    ///
    /// @param access of the walk
    /// @param leaf   the last entry
    /// @param error  ERROR_ bits of [PageFault]
    /// @return 0, or error-code bits: present, and protection key
    int refuses(int access, long leaf, long error, int pkru) {
        boolean write = (error & PageFault.ERROR_WRITE) != 0;
        boolean fetch = (error & PageFault.ERROR_FETCH) != 0;
        boolean executable = (access & Spte.ACCESS_EXECUTE) != 0;
        boolean writable = (access & Spte.ACCESS_WRITE) != 0;
        if (isEpt()) {
            boolean allowed = write ? writable : fetch ? executable : (access & Spte.ACCESS_READ) != 0;
            return allowed ? 0 : PageFaultCode.P;
        }
        boolean user = (error & PageFault.ERROR_USER) != 0;
        boolean userPage = (access & Spte.ACCESS_USER) != 0;
        boolean refused = (write && !writable && (user || writeProtect)) || (user && !userPage)
                || (fetch && noExecute && !executable);
        if (!user && userPage) {
            refused |= fetch ? smep : smap && (error & PageFault.ERROR_ALLOWS_USER) == 0;
        }
        boolean keyRefused = keys && userPage && !fetch && keyRefuses(leaf, write && (user || writeProtect), pkru);
        return refused || keyRefused ? PageFaultCode.P | (keyRefused ? PageFaultCode.PK : 0) : 0;
    }

    private static boolean keyRefuses(long leaf, boolean write, int pkru) {
        int rights = (pkru >>> (2 * (int) ((leaf >>> Pte.PROTECTION_KEY_SHIFT) & KEY_MASK))) & 3;
        return (rights & 1) != 0 || (write && (rights & 2) != 0);
    }

    /// Whether error codes tell instruction fetches apart.
    boolean tellsFetches() {
        return (noExecute && kind != Kind.BITS32) || smep;
    }
}
