package cloister.tdx.tdcall;

/// How each L2 VM may use a page: 16 bits for each VM, those of VM 0 at the bottom. [TDX-TDP "GPA Attributes"]
final class PageAttributes {
    static final int R = 1;
    static final int W = 1 << 1;
    /// R, W, Xs or Xu: the VM maps the page.
    private static final int PRESENT = 0xf;
    static final int PWA = 1 << 5;
    static final int SUPPRESS_VE = 1 << 7;
    static final int RESERVED = 0x7f00;
    static final int VALID = 1 << 15;
    /// In RCX of both functions' outputs: the page is pending.
    static final long PENDING = 1L << 62;

    private PageAttributes() {
    }

    /// The attributes of VM `vm`.
    static int of(long attributes, int vm) {
        return (int) (attributes >>> (16 * vm)) & 0xffff;
    }

    /// `attributes` with those of VM `vm` replaced.
    static long with(long attributes, int vm, int value) {
        return (attributes & ~(0xffffL << (16 * vm))) | ((long) value << (16 * vm));
    }

    static boolean isPresent(int attributes) {
        return (attributes & PRESENT) != 0;
    }

    /// Whether a VM may have the attributes.
    static boolean isLegal(int attributes) {
        return (attributes & (RESERVED | SUPPRESS_VE)) == 0 && ((attributes & (W | PWA)) == 0 || (attributes & R) != 0);
    }
}
