package cloister.cpu.fpu;

import cloister.cpu.fpu.SoftFloat.Num;

/// The functions behind the transcendental instructions, on [Wide] numbers: errors below 2^-110, so that the 64-bit results
/// are correctly rounded but for astronomically rare cases. Silicon guarantees 1 ulp and may differ in the last bit.
///
/// Arguments of the trigonometric functions are reduced with the 66-bit value of pi that Intel's processors use.
/// [SDM Vol. 1 "Transcendental Instruction Accuracy", "Approximation of Pi"]
final class X87Transcendental {
    // 0xC90FDAA22168C234C / 4: pi = that * 2^-64, pi / 2 = that * 2^-65.
    private static final long PI_HIGH = 3;
    private static final long PI_LOW = 0x243f_6a88_85a3_08d3L;

    private X87Transcendental() {
    }

    /// An angle reduced to [-pi/4, pi/4] and the number of quarter turns removed, modulo 4.
    record Reduced(Wide angle, int quadrant) {
    }

    /// Reduces a finite number below 2^63.
    static Reduced reduce(Num x) {
        if (x.exponent < -2) {
            return new Reduced(Wide.of(x), 0);
        }
        // Long division of the significand by pi / 2, both in units of 2^-65.
        long high = 0;
        long low = x.significand;
        int quotient = 0;
        for (int n = x.exponent + 2; n >= 0; n--) {
            quotient <<= 1;
            if (notLess(high, low, PI_HIGH, PI_LOW)) {
                high = high - PI_HIGH - (Long.compareUnsigned(low, PI_LOW) < 0 ? 1 : 0);
                low -= PI_LOW;
                quotient |= 1;
            }
            if (n > 0) {
                high = (high << 1) | (low >>> 63);
                low <<= 1;
            }
        }
        boolean negative = false;
        if (notLess((high << 1) | (low >>> 63), low << 1, PI_HIGH, PI_LOW)) {
            high = PI_HIGH - high - (Long.compareUnsigned(PI_LOW, low) < 0 ? 1 : 0);
            low = PI_LOW - low;
            negative = true;
            quotient++;
        }
        Wide angle = Wide.normalised(x.sign ^ negative, 127 - 65, high, low);
        return new Reduced(angle, x.sign ? -quotient & 3 : quotient & 3);
    }

    private static boolean notLess(long high, long low, long otherHigh, long otherLow) {
        int order = Long.compareUnsigned(high, otherHigh);
        return order > 0 || (order == 0 && Long.compareUnsigned(low, otherLow) >= 0);
    }

    static Wide sin(Reduced x) {
        Wide value = (x.quadrant & 1) == 0 ? sinSeries(x.angle) : cosSeries(x.angle);
        return (x.quadrant & 2) == 0 ? value : value.negate();
    }

    static Wide cos(Reduced x) {
        Wide value = (x.quadrant & 1) == 0 ? cosSeries(x.angle) : sinSeries(x.angle);
        return ((x.quadrant + 1) & 2) == 0 ? value : value.negate();
    }

    private static Wide sinSeries(Wide x) {
        return alternating(x, x.multiply(x), 2);
    }

    private static Wide cosSeries(Wide x) {
        return alternating(Wide.ONE, x.multiply(x), 1);
    }

    /// first - first * square / (n (n+1)) + ..., until terms no longer matter.
    private static Wide alternating(Wide first, Wide square, int n) {
        Wide sum = first;
        Wide term = first;
        while (!term.isZero() && term.exponent() > sum.exponent() - 130) {
            term = term.multiply(square).divide(n * (n + 1)).negate();
            sum = sum.add(term);
            n += 2;
        }
        return sum;
    }

    /// 2^x - 1 for -1 <= x <= 1.
    static Wide powerMinusOne(Wide x) {
        Wide t = x.multiply(Wide.LN2);
        Wide sum = t;
        Wide term = t;
        for (int n = 2; term.exponent() > sum.exponent() - 130; n++) {
            term = term.multiply(t).divide(n);
            sum = sum.add(term);
        }
        return sum;
    }

    /// log2(x) for x > 0.
    static Wide log2(Wide x) {
        // Significand between sqrt(1/2) and sqrt(2).
        boolean big = Long.compareUnsigned(x.high(), 0xb504_f333_f9de_6484L) > 0;
        int exponent = big ? x.exponent() + 1 : x.exponent();
        Wide m = new Wide(false, big ? -1 : 0, x.high(), x.low());
        Wide fraction = logarithm(m.subtract(Wide.ONE), m.add(Wide.ONE));
        return Wide.of(exponent).add(fraction);
    }

    /// log2(1 + x) for x > -1.
    static Wide log2PlusOne(Wide x) {
        return x.exponent() >= -1 ? log2(x.add(Wide.ONE)) : logarithm(x, x.add(Wide.TWO));
    }

    /// log2 of (b + a) / (b - a): 2 artanh(a / b) / ln 2.
    private static Wide logarithm(Wide a, Wide b) {
        if (a.isZero()) {
            return Wide.ZERO;
        }
        Wide s = a.divide(b);
        Wide square = s.multiply(s);
        Wide sum = s;
        Wide power = s;
        for (int n = 3; power.exponent() > sum.exponent() - 130; n += 2) {
            power = power.multiply(square);
            sum = sum.add(power.divide(n));
        }
        return sum.scale(1).multiply(Wide.LOG2E);
    }

    /// The angle of the point (x, y), both finite and not zero.
    static Wide atan2(Wide y, Wide x) {
        Wide ay = y.abs();
        Wide ax = x.abs();
        boolean steep = ay.compareMagnitude(ax) > 0;
        Wide angle = atan(steep ? ax.divide(ay) : ay.divide(ax));
        if (steep) {
            angle = Wide.PI.scale(-1).subtract(angle);
        }
        if (x.sign()) {
            angle = Wide.PI.subtract(angle);
        }
        return y.sign() ? angle.negate() : angle;
    }

    /// atan(q) for 0 < q <= 1: halves the angle three times, then sums the series.
    private static Wide atan(Wide q) {
        int halvings = q.exponent() < -4 ? 0 : 3;
        for (int n = 0; n < halvings; n++) {
            q = q.divide(Wide.ONE.add(Wide.ONE.add(q.multiply(q)).squareRoot()));
        }
        Wide square = q.multiply(q).negate();
        Wide sum = q;
        Wide power = q;
        for (int n = 3; power.exponent() > sum.exponent() - 130; n += 2) {
            power = power.multiply(square);
            sum = sum.add(power.divide(n));
        }
        return sum.scale(halvings);
    }
}
