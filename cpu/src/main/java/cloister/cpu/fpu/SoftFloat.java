package cloister.cpu.fpu;

/// IEEE arithmetic in software for the formats of x87 and SSE: every rounding mode, exact flags, 80-bit registers.
///
/// One instance is one workspace: operands are unpacked into [Num] objects, an operation leaves its result in another, and
/// one of the `pack` methods rounds it into a format and sets [#flags]. The SSE fast paths of [SseArithmetic] avoid it.
/// Tininess is detected after rounding, as Intel's processors do. [SDM Vol. 1 "Floating-Point Exceptions"]
final class SoftFloat {
    // Exception flags as MXCSR and FSW have them.
    static final int IE = 1;
    static final int DE = 2;
    static final int ZE = 4;
    static final int OE = 8;
    static final int UE = 16;
    static final int PE = 32;

    // RC encodings.
    static final int NEAREST = 0;
    static final int DOWN = 1;
    static final int UP = 2;
    static final int TRUNCATE = 3;

    static final long INDEFINITE_SIGNIFICAND = 0xc000_0000_0000_0000L;
    private static final long MSB = Long.MIN_VALUE;
    /// What unmasked overflow and underflow add to the exponent of an 80-bit result.
    private static final int X87_BIAS = 24576;

    enum Kind {
        ZERO, FINITE, INFINITE, QNAN, SNAN,
        /// An 80-bit encoding that the processor does not support: pseudo-NaN, pseudo-infinity, unnormal.
        UNSUPPORTED
    }

    /// An unpacked number: (-1)^sign * significand * 2^(exponent - 63), the significand's top bit set when FINITE. `low` has
    /// further significand bits of a result; bit 0 of it is sticky.
    static final class Num {
        Kind kind = Kind.ZERO;
        boolean sign;
        int exponent;
        long significand;
        long low;
        /// The operand was a denormal.
        boolean denormal;

        void copy(Num other) {
            kind = other.kind;
            sign = other.sign;
            exponent = other.exponent;
            significand = other.significand;
            low = other.low;
            denormal = other.denormal;
        }

        void set(Kind newKind, boolean newSign) {
            kind = newKind;
            sign = newSign;
            exponent = 0;
            significand = 0;
            low = 0;
            denormal = false;
        }

        void finite(boolean newSign, int newExponent, long newSignificand, long newLow) {
            kind = Kind.FINITE;
            sign = newSign;
            exponent = newExponent;
            significand = newSignificand;
            low = newLow;
            denormal = false;
        }

        /// The real indefinite QNaN.
        void indefinite() {
            set(Kind.QNAN, true);
            significand = INDEFINITE_SIGNIFICAND;
        }

        /// From any non-zero significand, normalised.
        void normalise(boolean newSign, int newExponent, long high, long newLow) {
            if (high == 0) {
                if (newLow == 0) {
                    set(Kind.ZERO, newSign);
                    return;
                }
                high = newLow;
                newLow = 0;
                newExponent -= 64;
            }
            int shift = Long.numberOfLeadingZeros(high);
            if (shift != 0) {
                high = (high << shift) | (newLow >>> (64 - shift));
                newLow <<= shift;
            }
            finite(newSign, newExponent - shift, high, newLow);
        }

        boolean isNan() {
            return kind == Kind.QNAN || kind == Kind.SNAN;
        }

        void quiet() {
            kind = Kind.QNAN;
            significand |= 0x4000_0000_0000_0000L;
        }
    }

    Num a = new Num();
    Num b = new Num();
    final Num r = new Num();
    /// Exceptions raised since the caller cleared it.
    int flags;
    /// RC.
    int rounding;
    /// Exceptions that are unmasked: they select the result of overflow and underflow.
    int unmasked;
    /// Significand bits of an 80-bit result: 64, 53 or 24.
    int precision = 64;
    /// MXCSR.DAZ and MXCSR.FTZ.
    boolean denormalsAreZeros;
    boolean flushToZero;
    /// MXCSR is in its usual state: round to nearest, all exceptions masked, neither DAZ nor FTZ.
    boolean fast;
    /// The precision flag is not set yet, so that inexact results must be noticed.
    boolean trackInexact;
    /// The last rounding increased the magnitude: C1.
    boolean roundedUp;
    /// Second half of an 80-bit result: sign and exponent.
    int signExponent;

    // Scratch for 64-bit quotients.
    private long remainder;

    /// Takes rounding and masks from MXCSR.
    void fromMxcsr(int mxcsr) {
        rounding = (mxcsr >> 13) & 3;
        unmasked = ~(mxcsr >> 7) & 0x3f;
        denormalsAreZeros = (mxcsr & 0x40) != 0;
        flushToZero = (mxcsr & 0x8000) != 0 && (unmasked & UE) == 0;
        fast = (mxcsr & 0xffc0) == 0x1f80;
        trackInexact = (mxcsr & PE) == 0;
        flags = 0;
    }

    /// Takes rounding, precision and masks from FCW.
    void fromFcw(int fcw) {
        rounding = (fcw >> 10) & 3;
        unmasked = ~fcw & 0x3f;
        int control = (fcw >> 8) & 3;
        precision = control == 0 ? 24 : control == 2 ? 53 : 64;
        denormalsAreZeros = false;
        flushToZero = false;
        flags = 0;
        roundedUp = false;
    }

    void swap() {
        Num first = a;
        a = b;
        b = first;
    }

    // Unpacking

    void unpack80(Num n, long significand, int signExponent) {
        int exponent = signExponent & 0x7fff;
        boolean sign = (signExponent & 0x8000) != 0;
        if (exponent == 0x7fff) {
            n.set(Kind.INFINITE, sign);
            n.significand = significand;
            if (significand >= 0) {
                n.kind = Kind.UNSUPPORTED;
            } else if (significand << 1 != 0) {
                n.kind = (significand & 0x4000_0000_0000_0000L) != 0 ? Kind.QNAN : Kind.SNAN;
            }
        } else if (exponent == 0) {
            n.normalise(sign, 1 - 16383, significand, 0);
            n.denormal = significand != 0;
        } else if (significand >= 0) {
            n.set(Kind.UNSUPPORTED, sign);
        } else {
            n.finite(sign, exponent - 16383, significand, 0);
        }
    }

    void unpack64(Num n, long bits) {
        unpack(n, bits < 0, (int) (bits >>> 52) & 0x7ff, (bits << 11) & ~MSB, 0x7ff);
    }

    void unpack32(Num n, int bits) {
        unpack(n, bits < 0, (bits >>> 23) & 0xff, ((long) bits << 40) & ~MSB, 0xff);
    }

    private void unpack(Num n, boolean sign, int exponent, long fraction, int maximum) {
        if (exponent == maximum) {
            n.set(Kind.INFINITE, sign);
            n.significand = fraction | MSB;
            if (fraction != 0) {
                n.kind = (fraction & 0x4000_0000_0000_0000L) != 0 ? Kind.QNAN : Kind.SNAN;
            }
        } else if (exponent == 0) {
            if (fraction == 0 || denormalsAreZeros) {
                n.set(Kind.ZERO, sign);
                return;
            }
            n.normalise(sign, 1 - (maximum >> 1), fraction, 0);
            n.denormal = true;
        } else {
            n.finite(sign, exponent - (maximum >> 1), fraction | MSB, 0);
        }
    }

    void unpackInt(Num n, long value) {
        n.normalise(value < 0, 63, value < 0 ? -value : value, 0);
    }

    // Packing

    /// Rounds `r` to binary32.
    int pack32() {
        int sign = r.sign ? 1 << 31 : 0;
        switch (r.kind) {
            case ZERO:
                return sign;
            case FINITE:
                break;
            case INFINITE:
                return sign | 0x7f80_0000;
            default:
                return sign | 0x7f80_0000 | ((int) (r.significand >>> 40) & 0x7f_ffff);
        }
        round(24, -126, 127, 192);
        return switch (r.kind) {
            case ZERO -> sign;
            case INFINITE -> sign | 0x7f80_0000;
            default -> sign | ((r.significand < 0 ? r.exponent + 127 : 0) << 23) | ((int) (r.significand >>> 40) & 0x7f_ffff);
        };
    }

    /// Rounds `r` to binary64.
    long pack64() {
        long sign = r.sign ? MSB : 0;
        switch (r.kind) {
            case ZERO:
                return sign;
            case FINITE:
                break;
            case INFINITE:
                return sign | 0x7ff0_0000_0000_0000L;
            default:
                return sign | 0x7ff0_0000_0000_0000L | ((r.significand >>> 11) & 0xf_ffff_ffff_ffffL);
        }
        round(53, -1022, 1023, 1536);
        return switch (r.kind) {
            case ZERO -> sign;
            case INFINITE -> sign | 0x7ff0_0000_0000_0000L;
            default -> sign | ((r.significand < 0 ? r.exponent + 1023L : 0) << 52)
                    | ((r.significand >>> 11) & 0xf_ffff_ffff_ffffL);
        };
    }

    /// Rounds `r` to an 80-bit register with [#precision]; returns the significand and leaves [#signExponent].
    long pack80() {
        return pack80(precision);
    }

    long pack80(int bits) {
        int sign = r.sign ? 0x8000 : 0;
        if (r.kind == Kind.FINITE) {
            round(bits, -16382, 16383, X87_BIAS);
        }
        switch (r.kind) {
            case ZERO -> {
                signExponent = sign;
                return 0;
            }
            case FINITE -> {
                signExponent = sign | (r.significand < 0 ? r.exponent + 16383 : 0);
                return r.significand;
            }
            case INFINITE -> {
                signExponent = sign | 0x7fff;
                return MSB;
            }
            default -> {
                signExponent = sign | 0x7fff;
                return r.significand;
            }
        }
    }

    /// Rounds the finite `r` to `bits` significand bits in the exponent range; denormal results have the top bit clear
    /// and `exponent` at the minimum. Unmasked overflow and underflow move the exponent by `bias` into range.
    private void round(int bits, int minimum, int maximum, int bias) {
        roundedUp = false;
        if (r.exponent < minimum) {
            if (!tiny(bits, minimum)) {
                // Rounds up to the smallest normal number, but is rounded as the denormal that it is stored as.
                denormalise(minimum - r.exponent);
                roundBits(bits);
                return;
            }
            if ((unmasked & UE) != 0) {
                flags |= UE;
                r.exponent += bias;
                roundBits(bits);
                if (r.exponent < minimum) {
                    r.set(Kind.ZERO, r.sign);
                    flags |= bias == X87_BIAS ? PE : 0;
                }
                return;
            }
            if (flushToZero) {
                flags |= UE | PE;
                r.set(Kind.ZERO, r.sign);
                return;
            }
            denormalise(minimum - r.exponent);
            if (roundBits(bits)) {
                flags |= UE;
            }
            if (r.significand == 0) {
                r.kind = Kind.ZERO;
            }
            return;
        }
        roundBits(bits);
        if (r.exponent > maximum) {
            overflow(bits, maximum, bias);
        }
    }

    /// Whether the value, rounded to `bits` with unlimited exponent, stays below 2^minimum.
    private boolean tiny(int bits, int minimum) {
        if (r.exponent < minimum - 1) {
            return true;
        }
        long mask = bits == 64 ? 0 : -1L >>> bits;
        if ((r.significand | mask) != -1L) {
            return true;
        }
        // All kept bits are ones: not tiny exactly when rounding carries out.
        return !increments(r.significand & mask, r.low, bits, true);
    }

    private void denormalise(int shift) {
        if (shift < 64) {
            r.low = (r.significand << (64 - shift)) | (r.low != 0 ? 1 : 0);
            r.significand >>>= shift;
        } else {
            r.low = shift == 64 && r.significand == MSB && r.low == 0 ? MSB : shift == 64 ? r.significand | (r.low != 0 ? 1 : 0) : 1;
            r.significand = 0;
        }
        r.exponent += shift;
    }

    /// Rounds significand and low to `bits`; returns whether that was inexact (and sets PE and roundedUp).
    private boolean roundBits(int bits) {
        long mask = bits == 64 ? 0 : -1L >>> bits;
        long rest = r.significand & mask;
        long low = r.low;
        if ((rest | low) == 0) {
            return false;
        }
        flags |= PE;
        boolean odd = (r.significand & (mask + 1)) != 0;
        boolean up = increments(rest, low, bits, odd);
        r.significand &= ~mask;
        r.low = 0;
        roundedUp = up;
        if (up) {
            boolean normal = r.significand < 0;
            r.significand += mask + 1;
            if (normal && r.significand >= 0) {
                r.significand = MSB;
                r.exponent++;
            }
        }
        return true;
    }

    private boolean increments(long rest, long low, int bits, boolean odd) {
        if ((rest | low) == 0) {
            return false;
        }
        switch (rounding) {
            case NEAREST -> {
                if (bits == 64) {
                    return low < 0 && (low != MSB || odd);
                }
                long half = 1L << (63 - bits);
                long top = rest & half;
                return top != 0 && (rest != half || low != 0 || odd);
            }
            case DOWN -> {
                return r.sign;
            }
            case UP -> {
                return !r.sign;
            }
            default -> {
                return false;
            }
        }
    }

    private void overflow(int bits, int maximum, int bias) {
        flags |= OE;
        if ((unmasked & OE) != 0) {
            r.exponent -= bias;
            if (r.exponent > maximum) {
                r.set(Kind.INFINITE, r.sign);
                roundedUp = true;
                flags |= bias == X87_BIAS ? PE : 0;
            }
            return;
        }
        flags |= PE;
        boolean toInfinity = rounding == NEAREST || rounding == (r.sign ? DOWN : UP);
        roundedUp = toInfinity;
        if (toInfinity) {
            r.set(Kind.INFINITE, r.sign);
        } else {
            r.exponent = maximum;
            r.significand = bits == 64 ? -1L : -1L << (64 - bits);
        }
    }

    // Arithmetic: r = a op b. The callers have dealt with NaNs and unsupported operands.

    void invalid() {
        flags |= IE;
        r.indefinite();
    }

    private void checkDenormals() {
        if (a.denormal || b.denormal) {
            flags |= DE;
        }
    }

    void add(boolean subtract) {
        boolean bSign = b.sign ^ subtract;
        if (a.kind == Kind.INFINITE) {
            if (b.kind == Kind.INFINITE && a.sign != bSign) {
                invalid();
                return;
            }
            checkDenormals();
            r.set(Kind.INFINITE, a.sign);
            return;
        }
        checkDenormals();
        if (b.kind != Kind.FINITE) {
            if (b.kind == Kind.ZERO && a.kind == Kind.ZERO) {
                r.set(Kind.ZERO, a.sign == bSign ? a.sign : rounding == DOWN);
            } else if (b.kind == Kind.ZERO) {
                r.finite(a.sign, a.exponent, a.significand, 0);
            } else {
                r.set(Kind.INFINITE, bSign);
            }
            return;
        }
        if (a.kind == Kind.ZERO) {
            r.finite(bSign, b.exponent, b.significand, 0);
        } else if (a.sign == bSign) {
            addMagnitudes();
        } else {
            subtractMagnitudes(bSign);
        }
    }

    private void addMagnitudes() {
        Num big = a.exponent >= b.exponent ? a : b;
        Num small = big == a ? b : a;
        int shift = big.exponent - small.exponent;
        long low = shiftedLow(small.significand, shift);
        long sum = big.significand + (shift < 64 ? small.significand >>> shift : 0);
        int exponent = big.exponent;
        if (Long.compareUnsigned(sum, big.significand) < 0) {
            low = (low >>> 1) | (sum << 63) | (low & 1);
            sum = (sum >>> 1) | MSB;
            exponent++;
        }
        r.finite(a.sign, exponent, sum, low);
    }

    private void subtractMagnitudes(boolean bSign) {
        int order = a.exponent != b.exponent ? Integer.compare(a.exponent, b.exponent)
                : Long.compareUnsigned(a.significand, b.significand);
        if (order == 0) {
            r.set(Kind.ZERO, rounding == DOWN);
            return;
        }
        Num big = order > 0 ? a : b;
        Num small = order > 0 ? b : a;
        int shift = big.exponent - small.exponent;
        long low = shiftedLow(small.significand, shift);
        long high = big.significand - (shift < 64 ? small.significand >>> shift : 0) - (low != 0 ? 1 : 0);
        r.normalise(order > 0 ? a.sign : bSign, big.exponent, high, -low);
    }

    /// The bits of `value` that a right shift moves below the significand, sticky bit included.
    private static long shiftedLow(long value, int shift) {
        if (shift == 0) {
            return 0;
        }
        if (shift < 64) {
            return value << (64 - shift);
        }
        if (shift == 64) {
            return value;
        }
        return shift < 127 ? (value >>> (shift - 64)) | (value << (128 - shift) != 0 ? 1 : 0) : 1;
    }

    void multiply() {
        boolean sign = a.sign ^ b.sign;
        if (a.kind == Kind.INFINITE || b.kind == Kind.INFINITE) {
            if (a.kind == Kind.ZERO || b.kind == Kind.ZERO) {
                invalid();
                return;
            }
            checkDenormals();
            r.set(Kind.INFINITE, sign);
            return;
        }
        checkDenormals();
        if (a.kind == Kind.ZERO || b.kind == Kind.ZERO) {
            r.set(Kind.ZERO, sign);
            return;
        }
        long high = Math.unsignedMultiplyHigh(a.significand, b.significand);
        r.normalise(sign, a.exponent + b.exponent + 1, high, a.significand * b.significand);
    }

    void divide() {
        boolean sign = a.sign ^ b.sign;
        if (a.kind == Kind.INFINITE) {
            if (b.kind == Kind.INFINITE) {
                invalid();
                return;
            }
            checkDenormals();
            r.set(Kind.INFINITE, sign);
            return;
        }
        if (b.kind == Kind.ZERO) {
            if (a.kind == Kind.ZERO) {
                invalid();
            } else {
                flags |= ZE;
                r.set(Kind.INFINITE, sign);
            }
            return;
        }
        checkDenormals();
        if (b.kind == Kind.INFINITE || a.kind == Kind.ZERO) {
            r.set(Kind.ZERO, sign);
            return;
        }
        int exponent = a.exponent - b.exponent;
        long high = a.significand >>> 1;
        long low = a.significand << 63;
        if (Long.compareUnsigned(a.significand, b.significand) >= 0) {
            long quotient = quotient(high, low, b.significand);
            r.finite(sign, exponent, quotient, remainder != 0 ? 1 : 0);
            stickyQuotient();
        } else {
            long quotient = quotient(a.significand, 0, b.significand);
            r.finite(sign, exponent - 1, quotient, remainder != 0 ? 1 : 0);
            stickyQuotient();
        }
    }

    /// Replaces the sticky bit of a quotient by one that also tells more from less than half.
    private void stickyQuotient() {
        if (remainder == 0) {
            return;
        }
        int half = remainder < 0 ? 1 : Long.compareUnsigned(remainder << 1, b.significand);
        r.low = half > 0 ? MSB | 1 : half == 0 ? MSB : 1;
    }

    /// `high:low` / `divisor`, where high < divisor and the divisor's top bit is set; leaves [#remainder].
    long quotient(long high, long low, long divisor) {
        long top = divisor >>> 32;
        long bottom = divisor & 0xffff_ffffL;
        long q1 = digit(high, low >>> 32, top, bottom);
        long rest = ((high << 32) | (low >>> 32)) - q1 * divisor;
        long q0 = digit(rest, low & 0xffff_ffffL, top, bottom);
        remainder = ((rest << 32) | (low & 0xffff_ffffL)) - q0 * divisor;
        return (q1 << 32) | q0;
    }

    private static long digit(long high, long next, long top, long bottom) {
        long q = Long.divideUnsigned(high, top);
        long rest = high - q * top;
        while (q >>> 32 != 0 || Long.compareUnsigned(q * bottom, (rest << 32) | next) > 0) {
            q--;
            rest += top;
            if (rest >>> 32 != 0) {
                break;
            }
        }
        return q;
    }

    /// r = sqrt(a).
    void squareRoot() {
        if (a.kind == Kind.ZERO) {
            r.set(Kind.ZERO, a.sign);
            return;
        }
        if (a.sign) {
            invalid();
            return;
        }
        if (a.kind == Kind.INFINITE) {
            r.set(Kind.INFINITE, false);
            return;
        }
        if (a.denormal) {
            flags |= DE;
        }
        // The root of significand * 2^62 or 2^63, bit by bit: 64 bits of result from a 127- or 128-bit radicand.
        boolean odd = (a.exponent & 1) != 0;
        long high = odd ? a.significand : a.significand >>> 1;
        long low = odd ? 0 : a.significand << 63;
        long root = 0;
        long restHigh = 0;
        long restLow = 0;
        for (int n = 0; n < 64; n++) {
            restHigh = (restHigh << 2) | (restLow >>> 62);
            restLow = (restLow << 2) | (high >>> 62);
            high = (high << 2) | (low >>> 62);
            low <<= 2;
            long trialHigh = root >>> 62;
            long trialLow = (root << 2) | 1;
            root <<= 1;
            boolean fits = restHigh != trialHigh ? Long.compareUnsigned(restHigh, trialHigh) > 0
                    : Long.compareUnsigned(restLow, trialLow) >= 0;
            if (fits) {
                restHigh -= trialHigh + (Long.compareUnsigned(restLow, trialLow) < 0 ? 1 : 0);
                restLow -= trialLow;
                root |= 1;
            }
        }
        // Remainder above the root means that the next bit would be one; a root is never exactly halfway.
        boolean aboveHalf = restHigh != 0 || Long.compareUnsigned(restLow, root) > 0;
        long sticky = (restHigh | restLow) == 0 ? 0 : aboveHalf ? MSB | 1 : 1;
        r.finite(false, a.exponent >> 1, root, sticky);
    }

    // Comparison and conversion

    /// -1, 0 or 1 as a is less than, equal to or greater than b; neither is a NaN or unsupported.
    int compare() {
        if (a.kind == Kind.ZERO && b.kind == Kind.ZERO) {
            return 0;
        }
        if (a.kind == Kind.ZERO) {
            return b.sign ? 1 : -1;
        }
        if (b.kind == Kind.ZERO || a.sign != b.sign) {
            return a.sign ? -1 : 1;
        }
        int magnitude = magnitudes();
        return a.sign ? -magnitude : magnitude;
    }

    private int magnitudes() {
        if (a.kind == Kind.INFINITE || b.kind == Kind.INFINITE) {
            return (a.kind == Kind.INFINITE ? 1 : 0) - (b.kind == Kind.INFINITE ? 1 : 0);
        }
        return a.exponent != b.exponent ? Integer.compare(a.exponent, b.exponent)
                : Integer.signum(Long.compareUnsigned(a.significand, b.significand));
    }

    /// Rounds `a` to a signed integer of `bits` (16, 32, 64) with rounding mode `mode`; the integer indefinite with IE when it does not
    /// fit or is no number.
    long toInteger(int bits, int mode) {
        long indefinite = -1L << (bits - 1);
        roundedUp = false;
        if (a.kind == Kind.ZERO) {
            return 0;
        }
        if (a.kind != Kind.FINITE || a.exponent > bits - 1) {
            flags |= IE;
            return indefinite;
        }
        r.copy(a);
        int savedFlags = flags;
        integral(mode);
        if (r.kind == Kind.ZERO) {
            return 0;
        }
        long magnitude = r.exponent > 63 ? 0 : r.significand >>> (63 - r.exponent);
        boolean fits = r.exponent < bits - 1 || (r.sign && r.exponent == bits - 1 && magnitude == 1L << (bits - 1));
        if (!fits) {
            flags = savedFlags | IE;
            roundedUp = false;
            return indefinite;
        }
        return r.sign ? -magnitude : magnitude;
    }

    /// Rounds the finite `r` to an integral value with rounding mode `mode`; PE when inexact.
    void integral(int mode) {
        roundedUp = false;
        if (r.exponent >= 63) {
            return;
        }
        int savedRounding = rounding;
        rounding = mode;
        if (r.exponent < 0) {
            boolean half = r.exponent == -1 && mode == NEAREST && r.significand << 1 != 0;
            boolean up = half || mode == (r.sign ? DOWN : UP);
            flags |= PE;
            roundedUp = up;
            if (up) {
                r.finite(r.sign, 0, MSB, 0);
            } else {
                r.set(Kind.ZERO, r.sign);
            }
        } else {
            roundBits(r.exponent + 1);
        }
        rounding = savedRounding;
    }
}
