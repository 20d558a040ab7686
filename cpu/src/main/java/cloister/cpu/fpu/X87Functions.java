package cloister.cpu.fpu;

import cloister.cpu.fpu.SoftFloat.Kind;
import cloister.cpu.fpu.SoftFloat.Num;
import cloister.isa.Op;

/// Square root, rounding, scaling, partial remainders and the transcendental instructions. [SDM Vol. 2]
final class X87Functions {
    private static final int HUGE = 1 << 17;

    private X87Functions() {
    }

    static boolean handles(Op op) {
        return switch (op) {
            case FSQRT, FRNDINT, FSCALE, FXTRACT, FPREM, FPREM1, F2XM1, FYL2X, FYL2XP1, FPTAN, FPATAN, FSIN, FCOS, FSINCOS ->
                true;
            default -> false;
        };
    }

    static void execute(FpuState s, Op op) {
        boolean two = switch (op) {
            case FSCALE, FPREM, FPREM1, FYL2X, FYL2XP1, FPATAN -> true;
            default -> false;
        };
        boolean popping = op == Op.FYL2X || op == Op.FYL2XP1 || op == Op.FPATAN;
        boolean pushing = op == Op.FXTRACT || op == Op.FSINCOS || op == Op.FPTAN;
        SoftFloat f = s.soft;
        switch (op) {
            case FPREM, FPREM1, FSIN, FCOS, FSINCOS, FPTAN -> X87.clear(s, X87.C2);
            default -> { }
        }
        if (X87.empty(s, 0) || (two && X87.empty(s, 1))) {
            stackUnderflow(s, popping, pushing);
            return;
        }
        if (pushing && !X87.empty(s, -1)) {
            if (X87.overflow(s)) {
                X87.writeIndefinite(s, 0);
                s.top(s.top() - 1);
                X87.writeIndefinite(s, 0);
            }
            return;
        }
        X87.load(s, f.a, 0);
        switch (op) {
            case FXTRACT -> extract(s);
            case FSIN, FCOS, FSINCOS, FPTAN -> trigonometric(s, op);
            case FPREM, FPREM1 -> {
                X87.load(s, f.b, 1);
                remainder(s, op == Op.FPREM1);
            }
            case FYL2X, FYL2XP1, FPATAN -> {
                X87.load(s, f.b, 1);
                if (!X87.nan(f)) {
                    binaryFunction(f, op);
                }
                finish(s, 1, 64, true);
            }
            case FSCALE -> {
                X87.load(s, f.b, 1);
                if (!X87.nan(f)) {
                    scale(f);
                }
                finish(s, 0, 64, false);
            }
            default -> {
                if (!X87.nanOperand(f)) {
                    unaryFunction(f, op);
                }
                finish(s, 0, op == Op.FSQRT ? f.precision : 64, false);
            }
        }
    }

    private static void stackUnderflow(FpuState s, boolean popping, boolean pushing) {
        if (!X87.underflow(s)) {
            return;
        }
        if (popping) {
            X87.writeIndefinite(s, 1);
            X87.pop(s);
            return;
        }
        X87.writeIndefinite(s, 0);
        if (pushing) {
            s.top(s.top() - 1);
            X87.writeIndefinite(s, 0);
        }
    }

    /// Rounds `f.r` into ST(i) and settles.
    private static void finish(FpuState s, int i, int precision, boolean pop) {
        SoftFloat f = s.soft;
        boolean integral = f.roundedUp;
        long significand = f.pack80(precision);
        if (X87.settle(s, f.flags, f.roundedUp || integral)) {
            X87.write(s, i, significand, f.signExponent);
            if (pop) {
                X87.pop(s);
            }
        }
    }

    private static void unaryFunction(SoftFloat f, Op op) {
        switch (op) {
            case FSQRT -> f.squareRoot();
            case FRNDINT -> {
                denormal(f.a, f);
                f.r.copy(f.a);
                if (f.a.kind == Kind.FINITE) {
                    f.integral(f.rounding);
                }
            }
            default -> powerMinusOne(f);
        }
    }

    private static void denormal(Num n, SoftFloat f) {
        if (n.denormal) {
            f.flags |= SoftFloat.DE;
        }
    }

    /// The transcendental instructions report every finite, non-zero result as inexact.
    private static void inexact(SoftFloat f) {
        if (f.r.kind == Kind.FINITE) {
            f.flags |= SoftFloat.PE;
        }
    }

    /// F2XM1; outside -1..1, where the result is undefined, the operand stays.
    private static void powerMinusOne(SoftFloat f) {
        Num a = f.a;
        denormal(a, f);
        f.r.copy(a);
        inexact(f);
        if (a.kind == Kind.INFINITE && a.sign) {
            f.r.finite(true, 0, Long.MIN_VALUE, 0);
        } else if (a.kind == Kind.FINITE && a.exponent < 0) {
            X87Transcendental.powerMinusOne(Wide.of(a)).store(f.r);
        } else if (a.kind == Kind.FINITE && a.sign) {
            if (a.exponent == 0 && a.significand == Long.MIN_VALUE) {
                f.r.finite(true, -1, Long.MIN_VALUE, 0);
            }
        }
    }

    /// FSCALE: ST(0) times two to the truncated ST(1).
    private static void scale(SoftFloat f) {
        Num a = f.a;
        Num b = f.b;
        if (b.kind == Kind.INFINITE) {
            if (a.kind == (b.sign ? Kind.INFINITE : Kind.ZERO)) {
                f.invalid();
                return;
            }
            denormal(a, f);
            f.r.set(b.sign ? Kind.ZERO : Kind.INFINITE, a.sign);
            return;
        }
        denormal(a, f);
        denormal(b, f);
        f.r.copy(a);
        if (a.kind != Kind.FINITE || b.kind != Kind.FINITE || b.exponent < 0) {
            return;
        }
        int by = b.exponent > 16 ? HUGE : (int) (b.significand >>> (63 - b.exponent));
        f.r.exponent += b.sign ? -by : by;
    }

    /// FXTRACT: the exponent replaces ST(0), the significand is pushed.
    private static void extract(FpuState s) {
        SoftFloat f = s.soft;
        Num a = f.a;
        long significand;
        int signExponent;
        if (X87.nanOperand(f)) {
            significand = f.pack80(64);
            signExponent = f.signExponent;
        } else if (a.kind == Kind.ZERO) {
            f.flags |= SoftFloat.ZE;
            significand = 0;
            signExponent = a.sign ? 0x8000 : 0;
            f.r.set(Kind.INFINITE, true);
        } else if (a.kind == Kind.INFINITE) {
            significand = Long.MIN_VALUE;
            signExponent = a.sign ? 0xffff : 0x7fff;
            f.r.set(Kind.INFINITE, false);
        } else {
            denormal(a, f);
            significand = a.significand;
            signExponent = a.sign ? 0xbfff : 0x3fff;
            f.unpackInt(f.r, a.exponent);
        }
        long exponent = f.pack80(64);
        if (X87.settle(s, f.flags, false)) {
            X87.write(s, 0, exponent, f.signExponent);
            X87.push(s, significand, signExponent);
        }
    }

    /// FPREM (truncating) and FPREM1 (IEEE). When the exponents differ by 64 or more the reduction is partial, by 32 to 63
    /// powers of two, and C2 is set.
    private static void remainder(FpuState s, boolean nearest) {
        SoftFloat f = s.soft;
        Num a = f.a;
        Num b = f.b;
        long quotient = 0;
        boolean partial = false;
        if (!X87.nan(f)) {
            if (a.kind == Kind.INFINITE || b.kind == Kind.ZERO) {
                f.invalid();
            } else {
                denormal(a, f);
                denormal(b, f);
                f.r.copy(a);
                int difference = a.exponent - b.exponent;
                if (a.kind == Kind.FINITE && b.kind == Kind.FINITE && difference >= -1) {
                    partial = difference >= 64;
                    quotient = reduce(f, partial ? difference - ((difference & 31) | 32) : 0, nearest && !partial);
                }
            }
        }
        long significand = f.pack80(64);
        if (!X87.settle(s, f.flags, f.roundedUp)) {
            return;
        }
        X87.write(s, 0, significand, f.signExponent);
        if (f.r.kind == Kind.QNAN) {
            return;
        }
        X87.clear(s, X87.C0 | X87.C1 | X87.C2 | X87.C3);
        if (partial) {
            s.fsw |= X87.C2;
        } else {
            s.fsw |= ((quotient & 4) != 0 ? X87.C0 : 0) | ((quotient & 2) != 0 ? X87.C3 : 0)
                    | ((quotient & 1) != 0 ? X87.C1 : 0);
        }
    }

    /// a - b * q * 2^last into `f.r`, where q is a / (b * 2^last) truncated or rounded to nearest; returns q's low bits.
    private static long reduce(SoftFloat f, int last, boolean nearest) {
        Num a = f.a;
        Num b = f.b;
        int difference = a.exponent - b.exponent;
        if (difference < 0) {
            // Half of b at most: only rounding to nearest can subtract b.
            if (!nearest || Long.compareUnsigned(a.significand, b.significand) <= 0) {
                return 0;
            }
            f.r.normalise(!a.sign, a.exponent, 2 * b.significand - a.significand, 0);
            return 1;
        }
        long rest = a.significand;
        boolean carry = false;
        long quotient = 0;
        for (int n = difference; ; n--) {
            quotient <<= 1;
            if (carry || Long.compareUnsigned(rest, b.significand) >= 0) {
                rest -= b.significand;
                quotient |= 1;
            }
            if (n == last) {
                break;
            }
            carry = rest < 0;
            rest <<= 1;
        }
        boolean sign = a.sign;
        if (nearest) {
            int half = rest < 0 ? 1 : Long.compareUnsigned(rest << 1, b.significand);
            if (half > 0 || (half == 0 && (quotient & 1) != 0)) {
                rest = b.significand - rest;
                sign = !sign;
                quotient++;
            }
        }
        f.r.normalise(sign, b.exponent + last, rest, 0);
        if (f.r.kind == Kind.ZERO) {
            f.r.sign = a.sign;
        }
        return quotient;
    }

    private static void trigonometric(FpuState s, Op op) {
        SoftFloat f = s.soft;
        Num a = f.a;
        X87.clear(s, X87.C1 | X87.C2);
        boolean pushing = op == Op.FSINCOS || op == Op.FPTAN;
        if (a.kind == Kind.FINITE && a.exponent >= 63) {
            s.fsw |= X87.C2;
            return;
        }
        long firstSignificand;
        int firstExponent;
        if (X87.nanOperand(f) || a.kind == Kind.INFINITE) {
            if (a.kind == Kind.INFINITE) {
                f.invalid();
            }
            firstSignificand = f.pack80(64);
            firstExponent = f.signExponent;
        } else {
            denormal(a, f);
            X87Transcendental.Reduced reduced = a.kind == Kind.ZERO ? new X87Transcendental.Reduced(Wide.ZERO, 0)
                    : X87Transcendental.reduce(a);
            if (pushing) {
                firstFunction(f, op, reduced);
                firstSignificand = f.pack80(64);
                firstExponent = f.signExponent;
                if (op == Op.FPTAN) {
                    f.r.finite(false, 0, Long.MIN_VALUE, 0);
                } else {
                    X87Transcendental.cos(reduced).store(f.r);
                }
            } else {
                firstFunction(f, op, reduced);
                firstSignificand = 0;
                firstExponent = 0;
            }
        }
        boolean up = f.roundedUp;
        long significand = f.pack80(64);
        if (!X87.settle(s, f.flags, op == Op.FPTAN ? up : f.roundedUp)) {
            return;
        }
        if (pushing) {
            X87.write(s, 0, firstSignificand, firstExponent);
            X87.push(s, significand, f.signExponent);
        } else {
            X87.write(s, 0, significand, f.signExponent);
        }
    }

    private static void firstFunction(SoftFloat f, Op op, X87Transcendental.Reduced x) {
        Wide value = switch (op) {
            case FCOS -> X87Transcendental.cos(x);
            case FPTAN -> x.angle().isZero() ? Wide.ZERO : X87Transcendental.sin(x).divide(X87Transcendental.cos(x));
            default -> X87Transcendental.sin(x);
        };
        value.store(f.r);
        if (f.r.kind == Kind.ZERO) {
            f.r.sign = f.a.sign;
        }
        if (f.a.kind == Kind.FINITE) {
            inexact(f);
            // A quotient of two tiny errors may look exact; the tangent never is.
            f.r.low |= op == Op.FPTAN ? 1 : 0;
        }
    }

    private static void binaryFunction(SoftFloat f, Op op) {
        // a is ST(0), b is ST(1).
        switch (op) {
            case FPATAN -> arctangent(f);
            case FYL2X -> logarithm(f);
            default -> logarithmPlusOne(f);
        }
    }

    private static void arctangent(SoftFloat f) {
        Num x = f.a;
        Num y = f.b;
        denormal(x, f);
        denormal(y, f);
        boolean sign = y.sign;
        if (y.kind == Kind.INFINITE) {
            Wide quarter = Wide.PI.scale(-2);
            Wide angle = x.kind != Kind.INFINITE ? Wide.PI.scale(-1) : x.sign ? Wide.PI.subtract(quarter) : quarter;
            storeSigned(f, angle, sign);
        } else if (y.kind == Kind.ZERO || x.kind == Kind.INFINITE) {
            if (x.sign) {
                storeSigned(f, Wide.PI, sign);
            } else {
                f.r.set(Kind.ZERO, sign);
            }
        } else if (x.kind == Kind.ZERO) {
            storeSigned(f, Wide.PI.scale(-1), sign);
        } else {
            X87Transcendental.atan2(Wide.of(y), Wide.of(x)).store(f.r);
            inexact(f);
        }
    }

    private static void storeSigned(SoftFloat f, Wide value, boolean sign) {
        value.store(f.r);
        f.r.sign = sign;
    }

    /// FYL2X: ST(1) * log2(ST(0)).
    private static void logarithm(SoftFloat f) {
        Num x = f.a;
        Num y = f.b;
        if (x.kind != Kind.ZERO && x.sign) {
            f.invalid();
            return;
        }
        if (x.kind == Kind.ZERO) {
            if (y.kind == Kind.ZERO) {
                f.invalid();
                return;
            }
            if (y.kind == Kind.FINITE) {
                f.flags |= SoftFloat.ZE;
            }
            f.r.set(Kind.INFINITE, !y.sign);
            return;
        }
        Wide log = x.kind == Kind.INFINITE ? Wide.ONE : X87Transcendental.log2(Wide.of(x));
        multiplyLogarithm(f, log, log.isZero() ? false : log.sign(), x.kind == Kind.INFINITE);
    }

    private static void logarithmPlusOne(SoftFloat f) {
        Num x = f.a;
        if ((x.kind == Kind.INFINITE && x.sign) || (x.kind == Kind.FINITE && x.sign && x.exponent >= 0)) {
            f.invalid();
            return;
        }
        Wide log = switch (x.kind) {
            case ZERO -> Wide.ZERO;
            case INFINITE -> Wide.ONE;
            default -> X87Transcendental.log2PlusOne(Wide.of(x));
        };
        multiplyLogarithm(f, log, x.sign, x.kind == Kind.INFINITE);
    }

    private static void multiplyLogarithm(SoftFloat f, Wide log, boolean logSign, boolean infinite) {
        Num y = f.b;
        boolean sign = y.sign ^ logSign;
        if ((infinite && y.kind == Kind.ZERO) || (log.isZero() && y.kind == Kind.INFINITE)) {
            f.invalid();
            return;
        }
        denormal(f.a, f);
        denormal(y, f);
        if (infinite || y.kind == Kind.INFINITE) {
            f.r.set(Kind.INFINITE, sign);
        } else if (y.kind == Kind.ZERO || log.isZero()) {
            f.r.set(Kind.ZERO, sign);
        } else {
            Wide.of(y).multiply(log).store(f.r);
            inexact(f);
        }
    }
}
