package cloister.sim;

/// Exact products and quotients for time: what is rounded is said, and nothing is rounded twice. Results saturate at [#MAX], so that
/// no number which a guest supplies makes them fail.
public final class Ratio {
    /// The largest result, 2^62 - 1: as ticks or nanoseconds more than a hundred years, and the sum of two is no overflow.
    public static final long MAX = (1L << 62) - 1;

    private Ratio() {
    }

    /// `a * b / c` rounded down, with the product in 128 bits.
    ///
    /// @param a at least 0
    /// @param b at least 0
    /// @param c at least 1
    /// @throws IllegalArgumentException when one is out of range
    public static long floor(long a, long b, long c) {
        return divide(a, b, c, 0);
    }

    /// `a * b / c` rounded up; parameters and errors as for [#floor].
    public static long ceil(long a, long b, long c) {
        return divide(a, b, c, c - 1);
    }

    /// `(a * b + addend) / c` for an addend below c.
    private static long divide(long a, long b, long c, long addend) {
        if ((a | b) < 0 || c < 1) {
            throw new IllegalArgumentException(a + " * " + b + " / " + c);
        }
        long low = a * b;
        long high = Math.multiplyHigh(a, b);
        long sum = low + addend;
        high += Long.compareUnsigned(sum, low) < 0 ? 1 : 0;
        if (high == 0) {
            long quotient = Long.divideUnsigned(sum, c);
            return quotient < 0 ? MAX : Math.min(quotient, MAX);
        }
        if (high >= c) {
            return MAX;
        }
        // Long division, a bit of the low half at a time; the remainder stays below c, which has 63 bits.
        long remainder = high;
        long quotient = 0;
        for (int bit = Long.SIZE - 1; bit >= 0; bit--) {
            remainder = (remainder << 1) | ((sum >>> bit) & 1);
            quotient <<= 1;
            if (Long.compareUnsigned(remainder, c) >= 0) {
                remainder -= c;
                quotient |= 1;
            }
        }
        return quotient < 0 ? MAX : Math.min(quotient, MAX);
    }
}
