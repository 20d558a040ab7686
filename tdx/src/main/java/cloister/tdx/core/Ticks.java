package cloister.tdx.core;

/// TSC arithmetic with 128-bit intermediate results. [SDM Vol. 3 "Time-Stamp Counter Scaling"]
final class Ticks {
    private Ticks() {
    }

    /// `value * 2^shift / divisor`, unsigned.
    static long scaled(long value, int shift, long divisor) {
        long high = value >>> (64 - shift);
        long low = value << shift;
        long quotient = 0;
        long remainder = Long.remainderUnsigned(high, divisor);
        for (int i = 63; i >= 0; i--) {
            boolean carry = remainder < 0;
            remainder = (remainder << 1) | ((low >>> i) & 1);
            if (carry || Long.compareUnsigned(remainder, divisor) >= 0) {
                remainder -= divisor;
                quotient |= 1L << i;
            }
        }
        return quotient;
    }

    /// `a * b / 2^48`, unsigned, low 64 bits.
    static long product48(long a, long b) {
        return (Math.unsignedMultiplyHigh(a, b) << 16) | ((a * b) >>> 48);
    }
}
