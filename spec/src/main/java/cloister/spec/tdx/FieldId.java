package cloister.spec.tdx;

/// A metadata field identifier: code 23:0, element size 33:32, last element 37:34, last field 46:38, increment 50, write mask
/// valid 51, context 54:52, class 61:56, non-architectural 63. [TDX-ABI "MD_FIELD_ID"]
public final class FieldId {
    public static final int CONTEXT_SYS = 0;
    public static final int CONTEXT_TD = 1;
    public static final int CONTEXT_VP = 2;
    /// "No field": also the value that asks for the first one.
    public static final long NONE = -1L;

    private static final long CONTEXT_MASK = 7L << 52;
    private static final long RESERVED = (0xffL << 24) | (7L << 47) | (1L << 55) | (1L << 62);
    private static final long SEQUENCE = (0xfL << 34) | (0x1ffL << 38);

    private FieldId() {
    }

    /// Bits 23:0.
    public static int code(long id) {
        return (int) id & 0xff_ffff;
    }

    /// Bits 31:0, for CPUID fields, whose code is wider.
    public static int wideCode(long id) {
        return (int) id;
    }

    /// `id` with another code.
    public static long withCode(long id, int code) {
        return (id & ~0xff_ffffL) | (code & 0xff_ffff);
    }

    /// Bits 33:32: binary logarithm of the element size in bytes.
    public static int sizeCode(long id) {
        return (int) (id >>> 32) & 3;
    }

    /// Bits 61:56.
    public static int classCode(long id) {
        return (int) (id >>> 56) & 0x3f;
    }

    /// `id` with another class.
    public static long withClass(long id, int classCode) {
        return (id & ~(0x3fL << 56)) | ((long) classCode << 56);
    }

    /// 1, or 2 when the increment bit is set.
    public static int stride(long id) {
        return 1 + (int) ((id >>> 50) & 1);
    }

    /// `id` with another context.
    public static long withContext(long id, int context) {
        return (id & ~CONTEXT_MASK) | ((long) context << 52);
    }

    /// Whether `id` is "no field", whatever its context.
    public static boolean isNone(long id) {
        return (id | CONTEXT_MASK) == NONE;
    }

    /// Whether `id` may name a single element: reserved bits and sequence counts are zero.
    public static boolean isSingleElement(long id) {
        return (id & (RESERVED | SEQUENCE)) == 0;
    }

    /// All bits of an element of size code 0..3.
    public static long elementMask(int sizeCode) {
        return sizeCode == 3 ? -1L : (1L << (8 << sizeCode)) - 1;
    }
}
