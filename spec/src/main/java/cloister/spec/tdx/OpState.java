package cloister.spec.tdx;

/// Operation states of a TD, by number, and the functions that each allows. [TDX-BASE "TD Operation State Machine"]
public enum OpState {
    UNINITIALIZED,
    INITIALIZED,
    RUNNABLE,
    LIVE_EXPORT,
    PAUSED_EXPORT,
    POST_EXPORT,
    MEMORY_IMPORT,
    STATE_IMPORT,
    POST_IMPORT,
    LIVE_IMPORT,
    FAILED_IMPORT;

    /// Leaf number and, from state 0 to 10, whether the host-side function is allowed.
    private static final String ALLOWED = """
            0  00110000010
            1  10000000000
            2  01000000000
            3  01110011110
            4  01000001000
            5  01111100110
            6  01110000010
            7  01111100110
            10 01000001000
            11 01111111111
            12 01111111111
            13 01110011111
            14 01110011111
            15 01111100110
            16 01000000000
            17 01000000000
            18 11111111111
            21 10000000000
            22 01000000000
            23 01111100110
            25 01111111111
            26 01111111111
            29 01111100111
            30 01111111111
            38 01111111110
            39 01111100110
            43 01110011111
            48 11110000110
            49 11000000000
            64 00011100000
            65 00010000000
            66 00100000000
            68 00011100000
            70 00010000000
            71 00011000000
            72 00100000010
            73 00001000000
            74 00001000000
            75 00111100000
            80 00000011101
            81 00000000110
            82 00000000100
            83 00000011110
            84 00000011000
            85 10000000000
            86 00000010000
            87 00000001000
            96 11100000000
            """;

    /// The same for the guest-side functions that act on another TD.
    private static final String ALLOWED_TO_SERVICE_TDS = """
            18 11111111111
            20 11110011111
            """;

    private static final int[] STATES_OF_LEAF = new int[128];
    private static final int[] STATES_OF_SERVICE_TD_LEAF = new int[32];
    private static final OpState[] VALUES = values();

    static {
        parse(ALLOWED, STATES_OF_LEAF);
        parse(ALLOWED_TO_SERVICE_TDS, STATES_OF_SERVICE_TD_LEAF);
    }

    private static void parse(String table, int[] statesOfLeaf) {
        table.lines().forEach(line -> {
            var columns = line.split(" +");
            int states = 0;
            for (int i = 0; i < VALUES.length; i++) {
                states |= (columns[1].charAt(i) - '0') << i;
            }
            statesOfLeaf[Integer.parseInt(columns[0])] = states;
        });
    }

    /// The state with number `number`, which the module itself stored.
    public static OpState of(int number) {
        return VALUES[number];
    }

    /// Whether `leaf` may run in this state.
    public boolean allows(SeamcallLeaf leaf) {
        return ((STATES_OF_LEAF[leaf.number()] >> ordinal()) & 1) != 0;
    }

    /// Whether a service TD's `leaf` may act on a TD in this state.
    public boolean allows(TdcallLeaf leaf) {
        return ((STATES_OF_SERVICE_TD_LEAF[leaf.number()] >> ordinal()) & 1) != 0;
    }

    /// Whether TDH.SERVTD.BIND may bind a TD in this state to another, as its service TD: it must have been measured.
    public boolean canServe() {
        return switch (this) {
            case RUNNABLE, LIVE_EXPORT, PAUSED_EXPORT, POST_EXPORT, POST_IMPORT, LIVE_IMPORT -> true;
            case UNINITIALIZED, INITIALIZED, MEMORY_IMPORT, STATE_IMPORT, FAILED_IMPORT -> false;
        };
    }

    /// Whether the TD may be running, so that memory changes need TLB tracking.
    public boolean needsTlbTracking() {
        return this == RUNNABLE || this == LIVE_EXPORT || this == LIVE_IMPORT;
    }

    /// Whether TDH.MNG.INIT or its import counterpart has run.
    public boolean anyInitialized() {
        return this != UNINITIALIZED;
    }

    /// Whether an import session is open.
    public boolean importInProgress() {
        return ordinal() >= MEMORY_IMPORT.ordinal() && ordinal() <= LIVE_IMPORT.ordinal();
    }
}
