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
}
