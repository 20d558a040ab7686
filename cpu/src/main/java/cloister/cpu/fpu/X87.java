package cloister.cpu.fpu;

import cloister.cpu.fpu.SoftFloat.Kind;
import cloister.cpu.fpu.SoftFloat.Num;

/// The register stack, control and status of the x87 FPU. `i` is always a register relative to TOP.
/// [SDM Vol. 1 "x87 FPU Execution Environment"]
final class X87 {
    static final int SF = 0x40;
    static final int ES = 0x80;
    static final int C0 = 0x100;
    static final int C1 = 0x200;
    static final int C2 = 0x400;
    static final int C3 = 0x4000;
    static final int BUSY = 0x8000;

    private X87() {
    }

    /// FCW as the FPU keeps `value`: bits 15:13 and 7 read as zero, bit 6 as one.
    static int legalControl(int value) {
        return (value & 0x1f3f) | 0x40;
    }

    /// Recomputes ES and B from the exception flags and masks.
    static void updateSummary(FpuState s) {
        if ((s.fsw & ~s.fcw & 0x3f) != 0) {
            s.fsw |= ES | BUSY;
        } else {
            s.fsw &= ~(ES | BUSY);
        }
    }

    static int physical(FpuState s, int i) {
        return ((s.fsw >> 11) + i) & 7;
    }

    static boolean empty(FpuState s, int i) {
        return ((s.tags >> physical(s, i)) & 1) == 0;
    }

    static void write(FpuState s, int i, long significand, int signExponent) {
        int n = physical(s, i);
        s.st[n] = significand;
        s.stExponent[n] = signExponent;
        s.tags |= 1 << n;
    }

    static void writeIndefinite(FpuState s, int i) {
        write(s, i, SoftFloat.INDEFINITE_SIGNIFICAND, 0xffff);
    }

    static void pop(FpuState s) {
        s.tags &= ~(1 << s.top());
        s.top(s.top() + 1);
    }

    /// Moves TOP down; the caller has checked that the new register is empty and writes it.
    static void push(FpuState s, long significand, int signExponent) {
        s.top(s.top() - 1);
        write(s, 0, significand, signExponent);
    }

    static void clear(FpuState s, int bits) {
        s.fsw &= ~bits;
    }

    /// Records the exceptions `flags` and C1 of a computation. False when an unmasked invalid, denormal or divide exception
    /// keeps the result from being stored; [SoftFloat#OE], UE and PE do not.
    static boolean settle(FpuState s, int flags, boolean roundedUp) {
        int unmasked = flags & ~s.fcw & 0x3f;
        boolean store = (unmasked & (SoftFloat.IE | SoftFloat.DE | SoftFloat.ZE)) == 0;
        if (!store) {
            flags &= SoftFloat.IE | SoftFloat.DE | SoftFloat.ZE;
        }
        s.fsw = (s.fsw & ~C1) | flags;
        if (roundedUp && (flags & SoftFloat.PE) != 0) {
            s.fsw |= C1;
        }
        if (unmasked != 0) {
            s.fsw |= ES | BUSY;
        }
        return store;
    }

    /// Stack underflow; true when it is masked, so that the caller stores the indefinite value.
    static boolean underflow(FpuState s) {
        s.fsw = (s.fsw & ~C1) | SoftFloat.IE | SF;
        return maskedInvalid(s);
    }

    /// Stack overflow; true when it is masked.
    static boolean overflow(FpuState s) {
        s.fsw |= C1 | SoftFloat.IE | SF;
        return maskedInvalid(s);
    }

    private static boolean maskedInvalid(FpuState s) {
        if ((s.fcw & SoftFloat.IE) == 0) {
            s.fsw |= ES | BUSY;
            return false;
        }
        return true;
    }

    /// Stack overflow or underflow of an instruction that pushes, when masked: the indefinite value is pushed.
    static void pushOverflow(FpuState s) {
        if (overflow(s)) {
            s.top(s.top() - 1);
            writeIndefinite(s, 0);
        }
    }

    /// Unpacks ST(i).
    static void load(FpuState s, Num n, int i) {
        int p = physical(s, i);
        s.soft.unpack80(n, s.st[p], s.stExponent[p]);
    }

    /// Whether `f.a` or `f.b` is a NaN or unsupported; then `f.r` is the result and IE may be set.
    /// [SDM Vol. 1 "Rules for Handling NaNs"]
    static boolean nan(SoftFloat f) {
        Num a = f.a;
        Num b = f.b;
        if (a.kind == Kind.UNSUPPORTED || b.kind == Kind.UNSUPPORTED) {
            f.invalid();
            return true;
        }
        if (!a.isNan() && !b.isNan()) {
            return false;
        }
        if (a.kind == Kind.SNAN || b.kind == Kind.SNAN) {
            f.flags |= SoftFloat.IE;
        }
        f.r.copy(preferred(a, b));
        f.r.quiet();
        return true;
    }

    private static Num preferred(Num a, Num b) {
        if (!a.isNan() || !b.isNan()) {
            return a.isNan() ? a : b;
        }
        if (a.kind != b.kind) {
            return a.kind == Kind.QNAN ? a : b;
        }
        int order = Long.compareUnsigned(a.significand, b.significand);
        return order != 0 ? order > 0 ? a : b : a.sign ? b : a;
    }

    /// As [#nan], for the one operand `f.a`.
    static boolean nanOperand(SoftFloat f) {
        Num a = f.a;
        if (a.kind == Kind.UNSUPPORTED) {
            f.invalid();
            return true;
        }
        if (!a.isNan()) {
            return false;
        }
        if (a.kind == Kind.SNAN) {
            f.flags |= SoftFloat.IE;
        }
        f.r.copy(a);
        f.r.quiet();
        return true;
    }
}
