package cloister.tdx.core;

/// Operations on entries of an L2 VM's Secure EPT. [TDX-BASE "L2 Secure EPT Entry"]
///
/// The state is R, IPAT, PS and bit 55 (blocked). A blocked leaf keeps its R, Xs and Xu permissions in the memory-type bits
/// and W in bit 59.
public final class L2SeptEntry {
    private static final long VGP = 1L << 57;
    public static final long PWA = 1L << 58;
    private static final long SAVED_W = 1L << 59;
    private static final long SSS = 1L << 60;
    private static final long STATE = SeptEntry.R | SeptEntry.IPAT | SeptEntry.LEAF | SeptEntry.BLOCKED;
    private static final long LEAF_STATE = STATE & ~SeptEntry.R;
    private static final long MAPPED_LEAF = SeptEntry.IPAT | SeptEntry.LEAF;
    private static final long BLOCKED_LEAF = MAPPED_LEAF | SeptEntry.BLOCKED;
    private static final long ATTRIBUTES = SeptEntry.RW_XS_XU | VGP | PWA | SSS | SeptEntry.SUPPRESS_VE;
    private static final long ARCHITECTURAL_LEAF = SeptEntry.MEMORY_TYPE | SeptEntry.HPA | SeptEntry.IPAT | SeptEntry.LEAF
            | SeptEntry.SUPPRESS_VE;

    // What interface functions call the states.
    private static final int FREE = 64;
    private static final int BLOCKED = 65;
    private static final int MAPPED = 68;
    private static final int NL_BLOCKED = 193;
    private static final int NL_MAPPED = 196;

    private L2SeptEntry() {
    }

    public static boolean isFree(long entry) {
        return (entry & STATE) == 0;
    }

    static boolean isMapped(long entry) {
        return (entry & LEAF_STATE) == MAPPED_LEAF;
    }

    private static boolean isBlockedLeaf(long entry) {
        return (entry & LEAF_STATE) == BLOCKED_LEAF;
    }

    static boolean isBlockedNonLeaf(long entry) {
        return (entry & STATE) == SeptEntry.BLOCKED;
    }

    public static long nonLeaf(long pa) {
        return SeptEntry.RW_XS_XU | pa;
    }

    /// A leaf with page attributes; it is blocked while the page is pending.
    public static long leaf(long old, long pa, int attributes, boolean blocked) {
        long entry = (old & ~(SeptEntry.HPA | SeptEntry.MEMORY_TYPE | SAVED_W | LEAF_STATE)) | pa | SeptEntry.WB
                | (blocked ? BLOCKED_LEAF : MAPPED_LEAF);
        return withAttributes(entry, attributes);
    }

    /// Changes the page attributes of a leaf; a blocked one keeps the permissions aside.
    public static long withAttributes(long old, int attributes) {
        long r = attributes & 1;
        long w = (attributes >>> 1) & 1;
        long x = (attributes >>> 2) & 1;
        long xu = (attributes >>> 3) & 1;
        long entry = (old & ~ATTRIBUTES) | (((attributes >>> 4) & 1L) << 57) | (((attributes >>> 5) & 1L) << 58)
                | (((attributes >>> 6) & 1L) << 60) | (((attributes >>> 7) & 1L) << 63);
        if (isBlockedLeaf(entry)) {
            return (entry & ~SeptEntry.MEMORY_TYPE & ~SAVED_W) | (r << 3) | (x << 4) | (xu << 5) | (w << 59);
        }
        return entry | r | (w << 1) | (x << 2) | (xu << 10);
    }

    /// Blocks an entry; an L1 page that is blocked for writing has its W saved already.
    public static long blocked(long entry, boolean l1Blockedw) {
        long result = entry;
        if (SeptEntry.isLeaf(entry)) {
            if (!l1Blockedw) {
                result = (result & ~SAVED_W) | ((entry & SeptEntry.W) << 58);
            }
            result = (result & ~SeptEntry.MEMORY_TYPE) | ((entry & SeptEntry.R) << 3) | ((entry & SeptEntry.X) << 2)
                    | ((entry & SeptEntry.XU) >>> 5);
            result = (result & ~LEAF_STATE) | BLOCKED_LEAF;
        } else {
            result = (result & ~STATE) | SeptEntry.BLOCKED;
        }
        return result & ~SeptEntry.RW_XS_XU;
    }

    public static long unblocked(long entry) {
        if (isBlockedNonLeaf(entry)) {
            return ((entry & ~STATE) | SeptEntry.RW_XS_XU) & ~SeptEntry.MEMORY_TYPE & ~SAVED_W;
        }
        if (!isBlockedLeaf(entry)) {
            return entry;
        }
        long result = (entry & ~LEAF_STATE & ~SeptEntry.RW_XS_XU) | MAPPED_LEAF;
        result |= ((entry >>> 3) & SeptEntry.R) | ((entry >>> 58) & SeptEntry.W) | ((entry >>> 2) & SeptEntry.X)
                | ((entry << 5) & SeptEntry.XU);
        return (result & ~SeptEntry.MEMORY_TYPE & ~SAVED_W) | SeptEntry.WB;
    }

    /// The state number that interface functions report: of a readable leaf none, because the module looks R up as well.
    static int architecturalState(long entry) {
        long state = entry & STATE;
        if (state == 0) {
            return FREE;
        }
        if (state == SeptEntry.R) {
            return NL_MAPPED;
        }
        if (state == SeptEntry.BLOCKED) {
            return NL_BLOCKED;
        }
        if (state == MAPPED_LEAF) {
            return MAPPED;
        }
        return state == BLOCKED_LEAF ? BLOCKED : 0;
    }

    /// The entry as interface functions report it; a debug TD shows attributes.
    public static long architectural(long entry, boolean debug) {
        if (isFree(entry)) {
            return SeptEntry.SUPPRESS_VE;
        }
        if (!SeptEntry.isLeaf(entry)) {
            return entry & (SeptEntry.RW_XS_XU | SeptEntry.LEAF);
        }
        if (debug) {
            return entry & (ARCHITECTURAL_LEAF | ATTRIBUTES);
        }
        return (entry & ARCHITECTURAL_LEAF) | (isMapped(entry) ? SeptEntry.RW_XS_XU : 0);
    }

    /// The page attributes of an entry, as TDG.MEM.PAGE.ATTR.RD reports them: R, W, Xs, Xu, VGP, PWA, SSS, suppress #VE,
    /// and bit 15 valid.
    public static int attributes(long entry, boolean l1Blockedw) {
        if (isFree(entry)) {
            return (int) (entry >>> 63) << 7;
        }
        if (!SeptEntry.isLeaf(entry)) {
            return 0xf | (1 << 15);
        }
        long r = entry & 1;
        long w = (entry >>> 1) & 1;
        long x = (entry >>> 2) & 1;
        long xu = (entry >>> 10) & 1;
        if (isBlockedLeaf(entry)) {
            w = (entry >>> 59) & 1;
            r = l1Blockedw ? r : (entry >>> 3) & 1;
            x = l1Blockedw ? x : (entry >>> 4) & 1;
            xu = l1Blockedw ? xu : (entry >>> 5) & 1;
        }
        long rest = (((entry >>> 57) & 1) << 4) | (((entry >>> 58) & 1) << 5) | (((entry >>> 60) & 1) << 6) | (((entry >>> 63) & 1) << 7);
        return (int) (r | (w << 1) | (x << 2) | (xu << 3) | rest | (1 << 15));
    }
}
