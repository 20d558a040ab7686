package cloister.spec.tdx;

/// States of a Secure EPT entry of the L1 tree, their encoding in entry bits and the functions that each allows.
/// [TDX-BASE "Secure EPT Entry State"]
///
/// The encoding has 7 bits, low to high: D (entry bit 9), bits 53-56, IPAT (bit 6), PS (bit 7).
public enum SeptState {
    FREE(0x0e, 0),
    REMOVED(0x0c, 5),
    NL_MAPPED(0x00, 132),
    NL_BLOCKED(0x08, 129),
    MAPPED(0x60, 4),
    BLOCKED(0x68, 1),
    BLOCKEDW(0x64, 8),
    EXPORTED_BLOCKEDW(0x66, 9),
    EXPORTED_DIRTY(0x63, 11),
    EXPORTED_DIRTY_BLOCKEDW(0x67, 12),
    PENDING(0x70, 2),
    PENDING_BLOCKED(0x78, 3),
    PENDING_BLOCKEDW(0x74, 16),
    PENDING_EXPORTED_BLOCKEDW(0x76, 17),
    PENDING_EXPORTED_DIRTY(0x73, 19),
    PENDING_EXPORTED_DIRTY_BLOCKEDW(0x77, 20);

    /// The entry bits that make up the state.
    public static final long ENCODING_MASK = (1L << 9) | (1L << 6) | (1L << 7) | (0xfL << 53);

    /// Leaf number and, in the order of the constants, whether the host-side function is allowed.
    private static final String SEAMCALL_ALLOWED = """
            2  1000000000000000
            3  1010000000000000
            5  0000111111111111
            6  1100000000000000
            7  0010101000101000
            12 0000101111000000
            14 0000100010000000
            15 0000110000110000
            16 0000100000000000
            23 0011000000000000
            25 1111111111111111
            29 0000111000111000
            30 0011000000000000
            39 0001010000010000
            66 0000000111000111
            75 0000001101001101
            """;
    /// The same for the guest side.
    private static final String TDCALL_ALLOWED = """
            6  0000000000100010
            23 0000101111101111
            24 0000100010100010
            """;

    private static final SeptState[] VALUES = values();
    private static final SeptState[] BY_ENCODING = new SeptState[128];
    private static final int[] SEAMCALL = parse(SEAMCALL_ALLOWED);
    private static final int[] TDCALL = parse(TDCALL_ALLOWED);

    static {
        for (var state : VALUES) {
            BY_ENCODING[state.encoding] = state;
        }
    }

    private final int encoding;
    private final int architectural;
    private final long bits;

    SeptState(int encoding, int architectural) {
        this.encoding = encoding;
        this.architectural = architectural;
        this.bits = ((encoding & 1L) << 9) | (((encoding >> 1) & 0xfL) << 53) | (((encoding >> 5) & 3L) << 6);
    }

    private static int[] parse(String table) {
        var states = new int[128];
        table.lines().forEach(line -> {
            var columns = line.split(" +");
            for (int i = 0; i < columns[1].length(); i++) {
                states[Integer.parseInt(columns[0])] |= (columns[1].charAt(i) - '0') << i;
            }
        });
        return states;
    }

    /// The state of an entry, or null when its bits encode none.
    public static SeptState of(long entry) {
        return BY_ENCODING[(int) (((entry >>> 9) & 1) | (((entry >>> 53) & 0xf) << 1) | (((entry >>> 6) & 3) << 5))];
    }

    /// The state bits in place.
    public long bits() {
        return bits;
    }

    /// The number of the state that interface functions report.
    public int architectural() {
        return architectural;
    }

    /// Whether the host-side function may act on an entry in this state.
    public boolean allows(SeamcallLeaf leaf) {
        return ((SEAMCALL[leaf.number()] >> ordinal()) & 1) != 0;
    }

    /// Whether the guest-side function may act on an entry in this state.
    public boolean allows(TdcallLeaf leaf) {
        return ((TDCALL[leaf.number()] >> ordinal()) & 1) != 0;
    }

    /// Whether the entry is blocked, leaf or not.
    public boolean anyBlocked() {
        return this == NL_BLOCKED || this == BLOCKED || this == PENDING_BLOCKED;
    }

    /// Whether the page is blocked for writing.
    public boolean anyBlockedw() {
        return switch (this) {
            case BLOCKEDW, EXPORTED_BLOCKEDW, EXPORTED_DIRTY_BLOCKEDW, PENDING_BLOCKEDW, PENDING_EXPORTED_BLOCKEDW,
                    PENDING_EXPORTED_DIRTY_BLOCKEDW -> true;
            default -> false;
        };
    }

    /// Whether the page waits for TDG.MEM.PAGE.ACCEPT.
    public boolean anyPending() {
        return ordinal() >= PENDING.ordinal();
    }

    /// Whether the guest may accept the page.
    public boolean guestAcceptable() {
        return this == PENDING || this == PENDING_EXPORTED_DIRTY;
    }

    /// Whether the guest can read the page.
    public boolean guestAccessibleLeaf() {
        return switch (this) {
            case MAPPED, BLOCKEDW, EXPORTED_BLOCKEDW, EXPORTED_DIRTY, EXPORTED_DIRTY_BLOCKEDW -> true;
            default -> false;
        };
    }

    /// Whether processors may hold translations made from the entry.
    public boolean needsTlbTracking() {
        return switch (this) {
            case FREE, REMOVED, EXPORTED_BLOCKEDW, PENDING_EXPORTED_BLOCKEDW -> false;
            default -> true;
        };
    }
}
