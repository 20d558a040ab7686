package cloister.tdx.core;

/// Page types in PAMT entries. [TDX-BASE "Physical Page Metadata"]
public final class PageType {
    public static final int NDA = 0;
    public static final int RSVD = 1;
    public static final int REG = 3;
    public static final int TDR = 4;
    public static final int TDCX = 5;
    public static final int TDVPR = 6;
    public static final int EPT = 8;

    private PageType() {
    }

    /// The specification's name of a type, or its number.
    public static String name(long type) {
        return switch ((int) type) {
            case NDA -> "PT_NDA";
            case RSVD -> "PT_RSVD";
            case REG -> "PT_REG";
            case TDR -> "PT_TDR";
            case TDCX -> "PT_TDCX";
            case TDVPR -> "PT_TDVPR";
            case EPT -> "PT_EPT";
            default -> "PT_" + type;
        };
    }
}
