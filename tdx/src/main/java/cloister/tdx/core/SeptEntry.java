package cloister.tdx.core;

import cloister.spec.tdx.SeptState;

/// Operations on the 64-bit words of Secure EPT entries. [TDX-BASE "Secure EPT Entry"]
///
/// Beyond the architectural EPT bits the module uses 11 (entry lock), 52 (host priority), 53-56 (state), 58-60 (mapped in L2
/// VM 1-3 as well), and bits 20:12 of a pending 2 MiB leaf as the number of 4 KiB chunks already accepted.
public final class SeptEntry {
    public static final long R = 1;
    public static final long W = 1 << 1;
    public static final long X = 1 << 2;
    public static final long RWX = R | W | X;
    public static final long WRITE_ONLY_MASK = R | W;
    public static final long XU = 1 << 10;
    static final long RW_XS_XU = RWX | XU;
    public static final long MEMORY_TYPE = 7 << 3;
    public static final long WB = 6 << 3;
    public static final long IPAT = 1 << 6;
    public static final long LEAF = 1 << 7;
    public static final long LOCK = 1 << 11;
    public static final long HOST_PRIORITY = 1L << 52;
    public static final long BLOCKED = 1L << 55;
    public static final long SUPPRESS_VE = 1L << 63;
    public static final long HPA = 0x000f_ffff_ffff_f000L;

    /// A free entry of the L1 tree.
    public static final long INIT = SeptState.FREE.bits() | SUPPRESS_VE;
    /// A free entry of an L2 tree.
    public static final long L2_INIT = 0;

    private static final long MIGRATION_EPOCH_VALID = 1L << 44;
    private static final long ACCEPT_COUNTER = 0x1ffL << 12;
    private static final long ARCHITECTURAL_LEAF = RWX | MEMORY_TYPE | HPA | IPAT | LEAF | SUPPRESS_VE;
    private static final long ARCHITECTURAL_NON_LEAF = RWX | LEAF;

    private SeptEntry() {
    }

    public static boolean isLeaf(long entry) {
        return (entry & LEAF) != 0;
    }

    public static boolean isPresent(long entry) {
        return (entry & RWX) != 0;
    }

    public static boolean isFree(long entry) {
        return SeptState.of(entry) == SeptState.FREE;
    }

    public static boolean isAliased(long entry, int vm) {
        return ((entry >>> (57 + vm)) & 1) != 0;
    }

    public static long withAlias(long entry, int vm) {
        return entry | (1L << (57 + vm));
    }

    public static long withoutAlias(long entry, int vm) {
        return entry & ~(1L << (57 + vm));
    }

    public static long withState(long entry, SeptState state) {
        return (entry & ~SeptState.ENCODING_MASK) | state.bits() | SUPPRESS_VE;
    }

    public static int acceptCounter(long entry) {
        return (int) (entry >>> 12) & 0x1ff;
    }

    public static long withAcceptCounter(long entry, int count) {
        return (entry & ~ACCEPT_COUNTER) | ((long) count << 12);
    }

    /// The page that the entry maps or points to.
    public static long pa(long entry) {
        return entry & HPA;
    }

    /// The address that a leaf of `level` (0 4 KiB, 1 2 MiB, 2 1 GiB) maps `gpa` to.
    public static long leafPa(long entry, long gpa, int level) {
        long offset = (1L << (12 + 9 * level)) - 1;
        return (entry & HPA & ~offset) | (gpa & offset);
    }

    public static long leaf(long attributes, long pa, SeptState state) {
        return attributes | state.bits() | WB | IPAT | pa | SUPPRESS_VE;
    }

    public static long nonLeaf(long pa) {
        return RWX | SeptState.NL_MAPPED.bits() | pa | SUPPRESS_VE;
    }

    /// An entry whose page was removed while the TD was imported: it says in which migration epoch.
    public static long removed(int migrationEpoch) {
        return SeptState.REMOVED.bits() | MIGRATION_EPOCH_VALID | ((migrationEpoch & 0xffff_ffffL) << 12) | SUPPRESS_VE;
    }

    /// What an acceptable pending entry is without its chunk count.
    public static long withoutPendingCount(long entry, int level) {
        return level == 1 && SeptState.of(entry).guestAcceptable() ? withAcceptCounter(entry, 0) : entry;
    }

    public static long blocked(long entry, int level) {
        long clean = withoutPendingCount(entry, level);
        return switch (SeptState.of(clean)) {
            case NL_MAPPED -> withState(clean, SeptState.NL_BLOCKED) & ~RWX;
            case MAPPED, BLOCKEDW -> withState(clean & ~RWX, SeptState.BLOCKED);
            case PENDING, PENDING_BLOCKEDW -> withState(clean, SeptState.PENDING_BLOCKED);
            default -> throw new ModuleHalt("blocking a Secure EPT entry in state " + SeptState.of(clean));
        };
    }

    public static long unblocked(long entry) {
        return switch (SeptState.of(entry)) {
            case NL_BLOCKED -> (withState(entry, SeptState.NL_MAPPED) | RWX) & ~MEMORY_TYPE;
            case BLOCKED -> (withState(entry, SeptState.MAPPED) & ~MEMORY_TYPE) | RWX | WB;
            case PENDING_BLOCKED -> withState(entry, SeptState.PENDING);
            default -> entry;
        };
    }

    /// The entry as interface functions report it.
    public static long architectural(long entry) {
        if (isFree(entry)) {
            return SUPPRESS_VE;
        }
        return entry & (isLeaf(entry) ? ARCHITECTURAL_LEAF : ARCHITECTURAL_NON_LEAF);
    }

    /// Level and state as interface functions report them.
    static long architecturalInfo(long entry, int level) {
        return level | ((long) SeptState.of(entry).architectural() << 8);
    }
}
