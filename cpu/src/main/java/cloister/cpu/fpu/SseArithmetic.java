package cloister.cpu.fpu;

import cloister.cpu.fpu.SoftFloat.Kind;
import cloister.cpu.fpu.SoftFloat.Num;

/// binary32 and binary64 arithmetic of SSE on the bits of one lane. The first argument of a binary operation is the
/// destination operand: it wins when both are NaNs. Flags accumulate in [SoftFloat#flags].
///
/// Fast path: with MXCSR in its usual state (nearest, everything masked, no DAZ, no FTZ), ordinary operands and an ordinary
/// result, Java's arithmetic gives the result and only the precision flag is in question; it is sticky, and when it is
/// not yet set the rounding error is computed with error-free transformations.
final class SseArithmetic {
    static final int ADD = 0;
    static final int SUB = 1;
    static final int MUL = 2;
    static final int DIV = 3;
    static final int MIN = 4;
    static final int MAX = 5;

    private static final long QUIET64 = 0x0008_0000_0000_0000L;
    private static final long INFINITY64 = 0x7ff0_0000_0000_0000L;
    private static final int QUIET32 = 0x0040_0000;
    private static final int INFINITY32 = 0x7f80_0000;
    private static final int INDEFINITE32 = 0xffc0_0000;

    private SseArithmetic() {
    }

    static boolean isNan64(long a) {
        return (a & Long.MAX_VALUE) > INFINITY64;
    }

    static boolean isNan32(int a) {
        return (a & Integer.MAX_VALUE) > INFINITY32;
    }

    private static boolean isSignaling64(long a) {
        return isNan64(a) && (a & QUIET64) == 0;
    }

    private static boolean isSignaling32(int a) {
        return isNan32(a) && (a & QUIET32) == 0;
    }

    /// Zero or normal.
    private static boolean ordinary64(long a) {
        return Integer.compareUnsigned(((int) (a >>> 52) & 0x7ff) - 1, 0x7fe) < 0 || a << 1 == 0;
    }

    private static boolean ordinary32(int a) {
        return Integer.compareUnsigned(((a >>> 23) & 0xff) - 1, 0xfe) < 0 || a << 1 == 0;
    }

    private static int exponent64(long a) {
        return (int) (a >>> 52) & 0x7ff;
    }

    private static int exponent32(int a) {
        return (a >>> 23) & 0xff;
    }

    /// The NaN result of an operation of which at least one operand is a NaN.
    static long nan64(SoftFloat f, long a, long b) {
        if (isSignaling64(a) || isSignaling64(b)) {
            f.flags |= SoftFloat.IE;
        }
        return (isNan64(a) ? a : b) | QUIET64;
    }

    static int nan32(SoftFloat f, int a, int b) {
        if (isSignaling32(a) || isSignaling32(b)) {
            f.flags |= SoftFloat.IE;
        }
        return (isNan32(a) ? a : b) | QUIET32;
    }

    static long binary64(SoftFloat f, int operation, long a, long b) {
        if (f.fast && operation < MIN && ordinary64(a) && ordinary64(b)) {
            double x = Double.longBitsToDouble(a);
            double y = Double.longBitsToDouble(b);
            double z = compute(operation, x, y);
            long bits = Double.doubleToRawLongBits(z);
            if (certain64(operation, a, b, bits)) {
                if (f.trackInexact && inexact(operation, x, y, z)) {
                    f.flags |= SoftFloat.PE;
                }
                return bits;
            }
        }
        return slow64(f, operation, a, b);
    }

    private static double compute(int operation, double x, double y) {
        return switch (operation) {
            case ADD -> x + y;
            case SUB -> x - y;
            case MUL -> x * y;
            default -> x / y;
        };
    }

    /// Whether the result is far from overflow and underflow, or an exact zero, and its error term is representable.
    private static boolean certain64(int operation, long a, long b, long result) {
        int exponent = exponent64(result);
        if (operation <= SUB) {
            return (exponent > 1 && exponent < 0x7fe) || result << 1 == 0;
        }
        return (exponent > 120 && exponent < 0x780 && exponent64(a) > 120 && exponent64(b) < 0x780)
                || (operation == MUL && (a << 1 == 0 || b << 1 == 0))
                || (operation == DIV && a << 1 == 0 && b << 1 != 0);
    }

    private static boolean inexact(int operation, double x, double y, double z) {
        switch (operation) {
            case ADD, SUB -> {
                double addend = operation == ADD ? y : -y;
                double part = z - x;
                return x - (z - part) + (addend - part) != 0;
            }
            case MUL -> {
                return Math.fma(x, y, -z) != 0;
            }
            default -> {
                return Math.fma(z, y, -x) != 0;
            }
        }
    }

    private static long slow64(SoftFloat f, int operation, long a, long b) {
        if (operation >= MIN) {
            return extreme64(f, operation, a, b);
        }
        if (isNan64(a) || isNan64(b)) {
            return nan64(f, a, b);
        }
        f.unpack64(f.a, a);
        f.unpack64(f.b, b);
        apply(f, operation);
        return f.pack64();
    }

    private static void apply(SoftFloat f, int operation) {
        switch (operation) {
            case ADD -> f.add(false);
            case SUB -> f.add(true);
            case MUL -> f.multiply();
            default -> f.divide();
        }
    }

    /// MIN and MAX: the second operand when they are equal or one is a NaN.
    private static long extreme64(SoftFloat f, int operation, long a, long b) {
        if (isNan64(a) || isNan64(b)) {
            f.flags |= SoftFloat.IE;
            return f.denormalsAreZeros && (b & INFINITY64) == 0 ? b & Long.MIN_VALUE : b;
        }
        long x = operand64(f, a);
        long y = operand64(f, b);
        double p = Double.longBitsToDouble(x);
        double q = Double.longBitsToDouble(y);
        return (operation == MIN ? p < q : p > q) ? x : y;
    }

    /// An operand that is no NaN: DE when it is a denormal, or zero with DAZ.
    private static long operand64(SoftFloat f, long a) {
        if ((a & INFINITY64) == 0 && a << 1 != 0) {
            if (f.denormalsAreZeros) {
                return a & Long.MIN_VALUE;
            }
            f.flags |= SoftFloat.DE;
        }
        return a;
    }

    private static int operand32(SoftFloat f, int a) {
        if ((a & INFINITY32) == 0 && a << 1 != 0) {
            if (f.denormalsAreZeros) {
                return a & Integer.MIN_VALUE;
            }
            f.flags |= SoftFloat.DE;
        }
        return a;
    }

    static int binary32(SoftFloat f, int operation, int a, int b) {
        if (f.fast && operation < MIN && ordinary32(a) && ordinary32(b)) {
            float x = Float.intBitsToFloat(a);
            float y = Float.intBitsToFloat(b);
            float z = compute(operation, x, y);
            int bits = Float.floatToRawIntBits(z);
            int exponent = exponent32(bits);
            if ((exponent > 1 && exponent < 0xfe) || certainZero32(operation, a, b, bits)) {
                if (f.trackInexact && inexact(operation, x, y, z)) {
                    f.flags |= SoftFloat.PE;
                }
                return bits;
            }
        }
        return slow32(f, operation, a, b);
    }

    private static float compute(int operation, float x, float y) {
        return switch (operation) {
            case ADD -> x + y;
            case SUB -> x - y;
            case MUL -> x * y;
            default -> x / y;
        };
    }

    private static boolean certainZero32(int operation, int a, int b, int result) {
        return result << 1 == 0 && (operation <= SUB || (operation == MUL && (a << 1 == 0 || b << 1 == 0))
                || (operation == DIV && a << 1 == 0 && b << 1 != 0));
    }

    private static boolean inexact(int operation, float x, float y, float z) {
        switch (operation) {
            case ADD, SUB -> {
                float addend = operation == ADD ? y : -y;
                float part = z - x;
                return x - (z - part) + (addend - part) != 0;
            }
            case MUL -> {
                return (double) x * y != z;
            }
            default -> {
                return (double) z * y != x;
            }
        }
    }

    private static int slow32(SoftFloat f, int operation, int a, int b) {
        if (operation >= MIN) {
            return extreme32(f, operation, a, b);
        }
        if (isNan32(a) || isNan32(b)) {
            return nan32(f, a, b);
        }
        f.unpack32(f.a, a);
        f.unpack32(f.b, b);
        apply(f, operation);
        return f.pack32();
    }

    private static int extreme32(SoftFloat f, int operation, int a, int b) {
        if (isNan32(a) || isNan32(b)) {
            f.flags |= SoftFloat.IE;
            return f.denormalsAreZeros && (b & INFINITY32) == 0 ? b & Integer.MIN_VALUE : b;
        }
        int x = operand32(f, a);
        int y = operand32(f, b);
        float p = Float.intBitsToFloat(x);
        float q = Float.intBitsToFloat(y);
        return (operation == MIN ? p < q : p > q) ? x : y;
    }

    static long sqrt64(SoftFloat f, long a) {
        if (isNan64(a)) {
            return nan64(f, a, a);
        }
        if (f.fast && !f.trackInexact && a > 0 && ordinary64(a)) {
            return Double.doubleToRawLongBits(Math.sqrt(Double.longBitsToDouble(a)));
        }
        f.unpack64(f.a, a);
        f.squareRoot();
        return f.pack64();
    }

    static int sqrt32(SoftFloat f, int a) {
        if (isNan32(a)) {
            return nan32(f, a, a);
        }
        if (f.fast && !f.trackInexact && a > 0 && ordinary32(a)) {
            return Float.floatToRawIntBits((float) Math.sqrt(Float.intBitsToFloat(a)));
        }
        f.unpack32(f.a, a);
        f.squareRoot();
        return f.pack32();
    }

    /// Unordered 2, else -1, 0 or 1. Raises IE for a signaling NaN, for any NaN when `signaling`, and DE.
    static int compare64(SoftFloat f, long a, long b, boolean signaling) {
        if (isNan64(a) || isNan64(b)) {
            if (signaling || isSignaling64(a) || isSignaling64(b)) {
                f.flags |= SoftFloat.IE;
            }
            return 2;
        }
        double x = Double.longBitsToDouble(operand64(f, a));
        double y = Double.longBitsToDouble(operand64(f, b));
        return x < y ? -1 : x > y ? 1 : 0;
    }

    static int compare32(SoftFloat f, int a, int b, boolean signaling) {
        if (isNan32(a) || isNan32(b)) {
            if (signaling || isSignaling32(a) || isSignaling32(b)) {
                f.flags |= SoftFloat.IE;
            }
            return 2;
        }
        float x = Float.intBitsToFloat(operand32(f, a));
        float y = Float.intBitsToFloat(operand32(f, b));
        return x < y ? -1 : x > y ? 1 : 0;
    }

    /// Whether the result `order` of a comparison satisfies predicate `predicate` (0..7) of CMPPS.
    static boolean satisfies(int predicate, int order) {
        boolean holds = switch (predicate & 3) {
            case 0 -> order == 0;
            case 1 -> order == -1;
            case 2 -> order <= 0;
            default -> order == 2;
        };
        return holds ^ (predicate & 4) != 0;
    }

    /// Whether predicate `predicate` raises IE for quiet NaNs.
    static boolean signaling(int predicate) {
        return (predicate & 3) == 1 || (predicate & 3) == 2;
    }

    // Conversions

    static long widen(SoftFloat f, int a) {
        if (isNan32(a)) {
            if (isSignaling32(a)) {
                f.flags |= SoftFloat.IE;
            }
            return (a < 0 ? Long.MIN_VALUE : 0) | INFINITY64 | QUIET64 | ((long) (a & 0x7f_ffff) << 29);
        }
        return Double.doubleToRawLongBits(Float.intBitsToFloat(operand32(f, a)));
    }

    static int narrow(SoftFloat f, long a) {
        if (isNan64(a)) {
            if (isSignaling64(a)) {
                f.flags |= SoftFloat.IE;
            }
            return ((int) (a >> 63) & (1 << 31)) | INFINITY32 | QUIET32 | ((int) (a >>> 29) & 0x7f_ffff);
        }
        f.unpack64(f.a, a);
        copyOperand(f);
        return f.pack32();
    }

    private static void copyOperand(SoftFloat f) {
        if (f.a.denormal) {
            f.flags |= SoftFloat.DE;
        }
        Num n = f.a;
        f.r.copy(n);
    }

    /// A binary64 as a signed integer of `bits` (32 or 64).
    static long toInteger64(SoftFloat f, long a, int bits, int mode) {
        if (f.fast && mode == SoftFloat.TRUNCATE) {
            double x = Double.longBitsToDouble(a);
            if (Math.abs(x) < 0x1p31 && ordinary64(a)) {
                int value = (int) x;
                if (value != x) {
                    f.flags |= SoftFloat.PE;
                }
                return value;
            }
        }
        f.unpack64(f.a, a);
        return f.toInteger(bits, mode);
    }

    static long toInteger32(SoftFloat f, int a, int bits, int mode) {
        f.unpack32(f.a, a);
        return f.toInteger(bits, mode);
    }

    static long fromInteger64(SoftFloat f, long value) {
        if (value == (int) value) {
            return Double.doubleToRawLongBits(value);
        }
        f.unpackInt(f.r, value);
        return f.pack64();
    }

    static int fromInteger32(SoftFloat f, long value) {
        f.unpackInt(f.r, value);
        return f.pack32();
    }

    /// ROUNDSD. `control` is the immediate.
    static long round64(SoftFloat f, long a, int control) {
        if (isNan64(a)) {
            return nan64(f, a, a);
        }
        f.unpack64(f.a, a);
        return roundOperand(f, control) ? f.pack64() : f.denormalsAreZeros && f.a.kind == Kind.ZERO ? a & Long.MIN_VALUE : a;
    }

    static int round32(SoftFloat f, int a, int control) {
        if (isNan32(a)) {
            return nan32(f, a, a);
        }
        f.unpack32(f.a, a);
        return roundOperand(f, control) ? f.pack32() : f.denormalsAreZeros && f.a.kind == Kind.ZERO ? a & Integer.MIN_VALUE : a;
    }

    /// Rounds `f.a` into `f.r`; false when it is a zero or an infinity.
    private static boolean roundOperand(SoftFloat f, int control) {
        if (f.a.kind != Kind.FINITE) {
            return false;
        }
        f.r.copy(f.a);
        int before = f.flags;
        f.integral((control & 4) != 0 ? f.rounding : control & 3);
        if ((control & 8) != 0) {
            f.flags = before;
        }
        return true;
    }

    // Approximations

    /// RCPSS: 1/a rounded to a significand of 12 bits, relative error at most 2^-12. Silicon interpolates from tables that are
    /// not documented; its results differ from these within the architectural bound of 1.5 * 2^-12.
    static int reciprocal(int a) {
        if (isNan32(a)) {
            return a | QUIET32;
        }
        int sign = a & Integer.MIN_VALUE;
        if ((a & INFINITY32) == 0) {
            return sign | INFINITY32;
        }
        float value = 1 / Float.intBitsToFloat(a);
        if (Math.abs(value) < 0x1p-126f) {
            return sign;
        }
        return roundTo12(Float.floatToRawIntBits(value));
    }

    /// RSQRTSS: as [#reciprocal], of the square root.
    static int reciprocalRoot(int a) {
        if (isNan32(a)) {
            return a | QUIET32;
        }
        int sign = a & Integer.MIN_VALUE;
        if ((a & INFINITY32) == 0) {
            return sign | INFINITY32;
        }
        if (sign != 0) {
            return INDEFINITE32;
        }
        return roundTo12(Float.floatToRawIntBits((float) (1 / Math.sqrt(Float.intBitsToFloat(a)))));
    }

    private static int roundTo12(int bits) {
        return (bits + 0x800) & ~0xfff;
    }
}
