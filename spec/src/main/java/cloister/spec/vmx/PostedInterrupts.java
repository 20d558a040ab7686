package cloister.spec.vmx;

/// The posted-interrupt descriptor: 64 bytes, 64-byte aligned. [SDM Vol. 3 "Posted-Interrupt Processing"]
public final class PostedInterrupts {
    /// 256 request bits.
    public static final int PIR = 0;
    /// A 64-bit word: outstanding notification 0, suppress notification 1, vector 23:16, destination 63:32.
    public static final int CONTROL = 32;
    public static final long OUTSTANDING = 1;
    public static final long SUPPRESS = 1 << 1;
    public static final int SIZE = 64;

    private PostedInterrupts() {
    }
}
