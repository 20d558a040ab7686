package cloister.spec.x86;

/// Control-flow enforcement: IA32_U_CET and IA32_S_CET, shadow-stack tokens, error codes of #CP. [SDM Vol. 1 "Control-flow
/// Enforcement Technology (CET)"; Vol. 3 "Interrupt 21—Control Protection Exception (#CP)"]
public final class Cet {
    // IA32_U_CET and IA32_S_CET
    public static final long SH_STK_EN = 1L;
    public static final long WR_SHSTK_EN = 1L << 1;
    public static final long ENDBR_EN = 1L << 2;
    /// Legacy code may be reached without ENDBRANCH, as a bitmap says.
    public static final long LEG_IW_EN = 1L << 3;
    public static final long NO_TRACK_EN = 1L << 4;
    /// Tracking is not suppressed by a transfer to legacy code.
    public static final long SUPPRESS_DIS = 1L << 5;
    public static final long RESERVED = 0xfL << 6;
    /// Indirect branches are not tracked until the next ENDBRANCH.
    public static final long SUPPRESS = 1L << 10;
    /// The tracker waits for ENDBRANCH; clear: it is idle.
    public static final long TRACKER = 1L << 11;
    /// EB_LEG_BITMAP_BASE, bits 63:12.
    public static final long BITMAP_BASE = -1L << 12;

    /// Bit 0 of a supervisor shadow-stack token: some processor has the stack.
    public static final long TOKEN_BUSY = 1;
    /// Bit 0 of a shadow-stack restore token: its stack is one of 64-bit mode.
    public static final long TOKEN_64 = 1;
    /// Bit 1 of a token that RSTORSSP writes: the previous SSP.
    public static final long TOKEN_PREVIOUS = 2;

    // Error codes of #CP
    public static final int CP_NEAR_RET = 1;
    public static final int CP_FAR_RET_IRET = 2;
    public static final int CP_ENDBRANCH = 3;
    public static final int CP_RSTORSSP = 4;
    public static final int CP_SETSSBSY = 5;

    private Cet() {
    }

    /// Whether IA32_U_CET or IA32_S_CET may hold `value`, canonicality of the bitmap's base apart.
    public static boolean legalControl(long value) {
        return (value & RESERVED) == 0 && (value & (SUPPRESS | TRACKER)) != (SUPPRESS | TRACKER);
    }
}
