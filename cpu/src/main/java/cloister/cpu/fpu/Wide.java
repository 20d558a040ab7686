package cloister.cpu.fpu;

import cloister.cpu.fpu.SoftFloat.Num;

/// A floating-point number with a 128-bit significand, for the transcendental functions of x87: (-1)^sign * (high:low / 2^127) *
/// 2^exponent, the top bit of `high` set; zero is `high` = 0. Operations truncate, with errors of a few units of 2^-126; lost
/// bits are jammed into the last one, so that no sum looks exact that is not.
record Wide(boolean sign, int exponent, long high, long low) {
    static final Wide ZERO = new Wide(false, 0, 0, 0);
    static final Wide ONE = new Wide(false, 0, Long.MIN_VALUE, 0);
    static final Wide TWO = new Wide(false, 1, Long.MIN_VALUE, 0);
    static final Wide LN2 = new Wide(false, -1, 0xb172_17f7_d1cf_79abL, 0xc9e3_b398_03f2_f6afL);
    static final Wide LOG2E = new Wide(false, 0, 0xb8aa_3b29_5c17_f0bbL, 0xbe87_fed0_691d_3e88L);
    static final Wide PI = new Wide(false, 1, 0xc90f_daa2_2168_c234L, 0xc4c6_628b_80dc_1cd1L);

    static Wide of(Num n) {
        return switch (n.kind) {
            case FINITE -> new Wide(n.sign, n.exponent, n.significand, 0);
            default -> ZERO;
        };
    }

    static Wide of(long value) {
        return value == 0 ? ZERO : normalised(value < 0, 63, Math.abs(value), 0);
    }

    /// From high:low of any form, scaled like [#high] and [#low].
    static Wide normalised(boolean sign, int exponent, long high, long low) {
        if (high == 0) {
            if (low == 0) {
                return ZERO;
            }
            high = low;
            low = 0;
            exponent -= 64;
        }
        int shift = Long.numberOfLeadingZeros(high);
        if (shift != 0) {
            high = (high << shift) | (low >>> (64 - shift));
            low <<= shift;
        }
        return new Wide(sign, exponent - shift, high, low);
    }

    /// Into a result that is still to be rounded.
    void store(Num n) {
        if (isZero()) {
            n.set(SoftFloat.Kind.ZERO, sign);
        } else {
            n.finite(sign, exponent, high, low);
        }
    }

    boolean isZero() {
        return high == 0;
    }

    Wide negate() {
        return new Wide(!sign, exponent, high, low);
    }

    Wide abs() {
        return new Wide(false, exponent, high, low);
    }

    /// Times 2^n.
    Wide scale(int n) {
        return isZero() ? this : new Wide(sign, exponent + n, high, low);
    }

    Wide add(Wide other) {
        if (isZero()) {
            return other;
        }
        if (other.isZero()) {
            return this;
        }
        boolean first = compareMagnitude(other) >= 0;
        return first ? addSmaller(other) : other.addSmaller(this);
    }

    Wide subtract(Wide other) {
        return add(other.negate());
    }

    int compareMagnitude(Wide other) {
        if (isZero() || other.isZero()) {
            return (isZero() ? 0 : 1) - (other.isZero() ? 0 : 1);
        }
        if (exponent != other.exponent) {
            return Integer.compare(exponent, other.exponent);
        }
        int order = Long.compareUnsigned(high, other.high);
        return order != 0 ? order : Long.compareUnsigned(low, other.low);
    }

    private Wide addSmaller(Wide small) {
        int shift = exponent - small.exponent;
        long h = small.high;
        long l = small.low;
        boolean lost = false;
        if (shift >= 128) {
            h = l = 0;
            lost = true;
        } else if (shift >= 64) {
            lost = l != 0 || (shift > 64 && h << (128 - shift) != 0);
            l = shift == 64 ? h : h >>> (shift - 64);
            h = 0;
        } else if (shift > 0) {
            lost = l << (64 - shift) != 0;
            l = (l >>> shift) | (h << (64 - shift));
            h >>>= shift;
        }
        return sign == small.sign ? sum(h, l, lost) : difference(h, l, lost);
    }

    private Wide sum(long h, long l, boolean lost) {
        long newLow = low + l;
        long carry = Long.compareUnsigned(newLow, low) < 0 ? 1 : 0;
        long newHigh = high + h;
        boolean overflow = Long.compareUnsigned(newHigh, high) < 0;
        newHigh += carry;
        overflow |= carry == 1 && newHigh == 0;
        if (overflow) {
            long sticky = (newLow & 1) | (lost ? 1 : 0);
            newLow = (newLow >>> 1) | (newHigh << 63) | sticky;
            return new Wide(sign, exponent + 1, (newHigh >>> 1) | Long.MIN_VALUE, newLow);
        }
        return new Wide(sign, exponent, newHigh, newLow | (lost ? 1 : 0));
    }

    private Wide difference(long h, long l, boolean lost) {
        long newLow = low - l;
        long newHigh = high - h - (Long.compareUnsigned(low, l) < 0 ? 1 : 0);
        if (lost) {
            newHigh -= newLow == 0 ? 1 : 0;
            newLow = (newLow - 1) | 1;
        }
        return normalised(sign, exponent, newHigh, newLow);
    }

    Wide multiply(Wide other) {
        if (isZero() || other.isZero()) {
            return ZERO;
        }
        // The four partial products; of the lowest only the high half matters.
        long bottom = Math.unsignedMultiplyHigh(low, other.low);
        long middle1 = low * other.high;
        long middle2 = high * other.low;
        long sum = bottom + middle1;
        long carry = Long.compareUnsigned(sum, bottom) < 0 ? 1 : 0;
        long word1 = sum + middle2;
        carry += Long.compareUnsigned(word1, sum) < 0 ? 1 : 0;
        long word2 = high * other.high;
        long word3 = Math.unsignedMultiplyHigh(high, other.high);
        long[] addends = {Math.unsignedMultiplyHigh(low, other.high), Math.unsignedMultiplyHigh(high, other.low), carry};
        for (long addend : addends) {
            word2 += addend;
            word3 += Long.compareUnsigned(word2, addend) < 0 ? 1 : 0;
        }
        boolean newSign = sign ^ other.sign;
        int newExponent = exponent + other.exponent + 1;
        if (word3 < 0) {
            return new Wide(newSign, newExponent, word3, word2 | (word1 != 0 ? 1 : 0));
        }
        return new Wide(newSign, newExponent - 1, (word3 << 1) | (word2 >>> 63), (word2 << 1) | (word1 >>> 63) | (word1 << 1 != 0 ? 1 : 0));
    }

    /// By a small positive integer.
    Wide divide(int divisor) {
        if (isZero()) {
            return this;
        }
        long rest = 0;
        long quotientHigh = 0;
        long quotientLow = 0;
        for (int n = 0; n < 4; n++) {
            long digit = ((n < 2 ? high : low) >>> (32 * (1 - (n & 1)))) & 0xffff_ffffL;
            long part = (rest << 32) | digit;
            long q = Long.divideUnsigned(part, divisor);
            rest = part - q * divisor;
            if (n < 2) {
                quotientHigh = (quotientHigh << 32) | q;
            } else {
                quotientLow = (quotientLow << 32) | q;
            }
        }
        return normalised(sign, exponent, quotientHigh, quotientLow);
    }

    Wide divide(Wide divisor) {
        // Restoring division, one quotient bit a step.
        long h = high;
        long l = low;
        boolean carry = false;
        long quotientHigh = 0;
        long quotientLow = 0;
        for (int n = 0; n < 128; n++) {
            boolean fits = carry || Long.compareUnsigned(h, divisor.high) > 0
                    || (h == divisor.high && Long.compareUnsigned(l, divisor.low) >= 0);
            quotientHigh = (quotientHigh << 1) | (quotientLow >>> 63);
            quotientLow <<= 1;
            if (fits) {
                h = h - divisor.high - (Long.compareUnsigned(l, divisor.low) < 0 ? 1 : 0);
                l -= divisor.low;
                quotientLow |= 1;
            }
            carry = h < 0;
            h = (h << 1) | (l >>> 63);
            l <<= 1;
        }
        return normalised(sign ^ divisor.sign, exponent - divisor.exponent, quotientHigh, quotientLow | ((h | l) != 0 ? 1 : 0));
    }

    /// The square root of a positive number, by Newton's iteration from the root of a double.
    Wide squareRoot() {
        int even = exponent & ~1;
        double start = Math.sqrt((high >>> 11) * (exponent == even ? 0x1p-52 : 0x1p-51));
        Wide radicand = new Wide(false, exponent - even, high, low);
        Wide root = ofDouble(start);
        for (int n = 0; n < 2; n++) {
            root = root.add(radicand.divide(root)).scale(-1);
        }
        return root.scale(even / 2);
    }

    private static Wide ofDouble(double value) {
        long bits = Double.doubleToRawLongBits(value);
        return new Wide(bits < 0, ((int) (bits >>> 52) & 0x7ff) - 1023, (bits << 11) | Long.MIN_VALUE, 0);
    }
}
