package cloister.spec.x86;

/// Bits of paging-structure entries. [SDM Vol. 3 "Paging"]
public final class Pte {
    public static final long P = 1L;
    public static final long W = 1L << 1;
    public static final long U = 1L << 2;
    public static final long PWT = 1L << 3;
    public static final long PCD = 1L << 4;
    public static final long A = 1L << 5;
    public static final long D = 1L << 6;
    /// Page size, in an entry that can map a page above 4 KiB.
    public static final long PS = 1L << 7;
    /// In an entry that maps a 4 KiB page: the upper bit of the PAT index.
    public static final long PAT = 1L << 7;
    public static final long G = 1L << 8;
    /// In an entry that maps a larger page: the upper bit of the PAT index.
    public static final long PAT_LARGE = 1L << 12;
    public static final int PROTECTION_KEY_SHIFT = 59;
    public static final long XD = 1L << 63;

    private Pte() {
    }
}
