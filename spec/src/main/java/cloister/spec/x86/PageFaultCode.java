package cloister.spec.x86;

/// Bits of the page-fault error code. [SDM Vol. 3 "Page-Fault Exceptions"]
public final class PageFaultCode {
    public static final int P = 1;
    public static final int W = 1 << 1;
    public static final int U = 1 << 2;
    public static final int RSVD = 1 << 3;
    public static final int I = 1 << 4;
    public static final int PK = 1 << 5;
    public static final int SS = 1 << 6;

    private PageFaultCode() {
    }
}
