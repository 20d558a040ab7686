package cloister.tdx.core;

/// Page types in PAMT entries. [TDX-BASE "Physical Page Metadata"]
final class PageType {
    static final int NDA = 0;
    static final int RSVD = 1;
    static final int REG = 3;
    static final int TDR = 4;
    static final int TDCX = 5;
    static final int TDVPR = 6;
    static final int EPT = 8;

    private PageType() {
    }
}
