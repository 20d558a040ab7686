package cloister.cpu.fpu;

import cloister.cpu.core.Cpu;
import cloister.cpu.fpu.SoftFloat.Kind;
import cloister.isa.Instruction;
import cloister.isa.Op;
import cloister.isa.OperandKind;

/// x87 loads, stores, constants, exchanges and conditional moves.
final class X87Moves {
    private X87Moves() {
    }

    static void execute(Cpu cpu, Instruction insn) {
        FpuState s = cpu.fpu;
        switch (insn.op) {
            case FLD -> load(cpu, insn);
            case FILD -> loadInteger(cpu, insn);
            case FBLD -> loadDecimal(cpu, insn);
            case FST, FSTP -> store(cpu, insn);
            case FIST, FISTP, FISTTP -> storeInteger(cpu, insn);
            case FBSTP -> storeDecimal(cpu, insn);
            case FXCH -> exchange(s, insn.reg0);
            case FABS, FCHS -> changeSign(s, insn.op);
            case FXAM -> examine(s);
            case FDECSTP -> {
                s.top(s.top() - 1);
                X87.clear(s, X87.C1);
            }
            case FINCSTP -> {
                s.top(s.top() + 1);
                X87.clear(s, X87.C1);
            }
            case FFREE -> {
                X87.clear(s, X87.C1);
                s.tags &= ~(1 << X87.physical(s, insn.reg0));
            }
            case FFREEP -> {
                X87.clear(s, X87.C1);
                s.tags &= ~(1 << X87.physical(s, insn.reg0));
                X87.pop(s);
            }
            case FLD1, FLDL2E, FLDL2T, FLDLG2, FLDLN2, FLDPI, FLDZ -> constant(s, insn.op);
            default -> conditional(cpu, insn);
        }
    }

    private static void load(Cpu cpu, Instruction insn) {
        FpuState s = cpu.fpu;
        SoftFloat f = s.soft;
        long significand;
        int signExponent;
        int size = insn.size0;
        if (insn.kind0 == OperandKind.ST) {
            if (X87.empty(s, insn.reg0)) {
                if (X87.underflow(s)) {
                    X87.push(s, SoftFloat.INDEFINITE_SIGNIFICAND, 0xffff);
                }
                return;
            }
            if (!X87.empty(s, -1)) {
                X87.pushOverflow(s);
                return;
            }
            int p = X87.physical(s, insn.reg0);
            significand = s.st[p];
            signExponent = s.stExponent[p];
        } else if (size == 10) {
            long at = cpu.linear(insn.segment, cpu.ea(insn), 10, false);
            significand = cpu.read64(at);
            signExponent = (int) cpu.read16(at + 8);
        } else {
            long bits = cpu.readOperand(insn, 0);
            if (size == 4) {
                f.unpack32(f.a, (int) bits);
            } else {
                f.unpack64(f.a, bits);
            }
            if (X87.empty(s, -1) && !X87.nanOperand(f)) {
                f.flags |= f.a.denormal ? SoftFloat.DE : 0;
                f.r.copy(f.a);
            }
            significand = f.pack80(64);
            signExponent = f.signExponent;
        }
        if (!X87.empty(s, -1)) {
            X87.pushOverflow(s);
            return;
        }
        // An unmasked denormal exception does not keep FLD from loading.
        X87.settle(s, f.flags, false);
        if ((f.flags & ~s.fcw & SoftFloat.IE) == 0) {
            X87.push(s, significand, signExponent);
        }
    }

    private static void loadInteger(Cpu cpu, Instruction insn) {
        FpuState s = cpu.fpu;
        SoftFloat f = s.soft;
        long raw = cpu.readOperand(insn, 0);
        long value = insn.size0 == 2 ? (short) raw : insn.size0 == 4 ? (int) raw : raw;
        f.unpackInt(f.r, value);
        pushExact(s, f);
    }

    private static void pushExact(FpuState s, SoftFloat f) {
        if (!X87.empty(s, -1)) {
            X87.pushOverflow(s);
            return;
        }
        X87.clear(s, X87.C1);
        long significand = f.pack80(64);
        X87.push(s, significand, f.signExponent);
    }

    /// FBLD; the value of digits above 9 is undefined, here they count as they are.
    private static void loadDecimal(Cpu cpu, Instruction insn) {
        FpuState s = cpu.fpu;
        SoftFloat f = s.soft;
        long at = cpu.linear(insn.segment, cpu.ea(insn), 10, false);
        long low = cpu.read64(at);
        long high = cpu.read16(at + 8);
        long value = 0;
        for (int n = 17; n >= 0; n--) {
            value = value * 10 + (n >= 16 ? (high >>> (4 * (n - 16))) & 15 : (low >>> (4 * n)) & 15);
        }
        f.r.normalise((high & 0x8000) != 0, 63, value, 0);
        pushExact(s, f);
    }

    private static void store(Cpu cpu, Instruction insn) {
        FpuState s = cpu.fpu;
        boolean pop = insn.op == Op.FSTP;
        boolean empty = X87.empty(s, 0);
        if (insn.kind0 == OperandKind.ST) {
            if (!empty) {
                X87.clear(s, X87.C1);
                int p = X87.physical(s, 0);
                X87.write(s, insn.reg0, s.st[p], s.stExponent[p]);
            } else if (X87.underflow(s)) {
                X87.writeIndefinite(s, insn.reg0);
            } else {
                return;
            }
        } else if (insn.size0 == 10) {
            if (!store80(cpu, insn, empty)) {
                return;
            }
        } else if (!storeNarrow(cpu, insn, empty)) {
            return;
        }
        if (pop) {
            X87.pop(s);
        }
    }

    private static boolean store80(Cpu cpu, Instruction insn, boolean empty) {
        FpuState s = cpu.fpu;
        int p = X87.physical(s, 0);
        long at = cpu.linear(insn.segment, cpu.ea(insn), 10, true);
        cpu.probeWrite(at, 10);
        if (empty && !X87.underflow(s)) {
            return false;
        }
        if (!empty) {
            X87.clear(s, X87.C1);
        }
        cpu.write64(at, empty ? SoftFloat.INDEFINITE_SIGNIFICAND : s.st[p]);
        cpu.write16(at + 8, empty ? 0xffff : s.stExponent[p]);
        return true;
    }

    /// FST and FSTP to binary32 or binary64. Unmasked overflow and underflow store nothing.
    private static boolean storeNarrow(Cpu cpu, Instruction insn, boolean empty) {
        FpuState s = cpu.fpu;
        SoftFloat f = s.soft;
        long at = cpu.linear(insn.segment, cpu.ea(insn), insn.size0, true);
        cpu.probeWrite(at, insn.size0);
        if (empty) {
            f.r.indefinite();
            if (!X87.underflow(s)) {
                return false;
            }
        } else {
            X87.load(s, f.a, 0);
            if (!X87.nanOperand(f)) {
                f.r.copy(f.a);
            }
        }
        long bits = insn.size0 == 4 ? f.pack32() : f.pack64();
        if (!empty) {
            int lost = f.flags & ~s.fcw & (SoftFloat.OE | SoftFloat.UE);
            if (lost != 0) {
                f.flags &= ~SoftFloat.PE;
            }
            if (!X87.settle(s, f.flags, f.roundedUp) || lost != 0) {
                return false;
            }
        }
        cpu.write(at, insn.size0, bits);
        return true;
    }

    private static void storeInteger(Cpu cpu, Instruction insn) {
        FpuState s = cpu.fpu;
        SoftFloat f = s.soft;
        long at = cpu.linear(insn.segment, cpu.ea(insn), insn.size0, true);
        cpu.probeWrite(at, insn.size0);
        int bits = 8 * insn.size0;
        long value = -1L << (bits - 1);
        if (X87.empty(s, 0)) {
            if (!X87.underflow(s)) {
                return;
            }
        } else {
            X87.load(s, f.a, 0);
            value = f.toInteger(bits, insn.op == Op.FISTTP ? SoftFloat.TRUNCATE : f.rounding);
            if (!X87.settle(s, f.flags, f.roundedUp)) {
                return;
            }
        }
        cpu.write(at, insn.size0, value);
        if (insn.op != Op.FIST) {
            X87.pop(s);
        }
    }

    /// FBSTP: 18 decimal digits, or the packed BCD indefinite value.
    private static void storeDecimal(Cpu cpu, Instruction insn) {
        FpuState s = cpu.fpu;
        SoftFloat f = s.soft;
        long at = cpu.linear(insn.segment, cpu.ea(insn), 10, true);
        cpu.probeWrite(at, 10);
        long low = 0xc000_0000_0000_0000L;
        long high = 0xffff;
        if (X87.empty(s, 0)) {
            if (!X87.underflow(s)) {
                return;
            }
        } else {
            X87.load(s, f.a, 0);
            boolean sign = f.a.sign;
            long value = Math.abs(f.toInteger(64, f.rounding));
            if (value < 0 || value > 999_999_999_999_999_999L) {
                f.flags = SoftFloat.IE;
                f.roundedUp = false;
            } else {
                low = 0;
                for (int n = 0; n < 16; n++) {
                    low |= (value % 10) << (4 * n);
                    value /= 10;
                }
                high = (value % 10) | ((value / 10) << 4) | (sign ? 0x8000 : 0);
            }
            if (!X87.settle(s, f.flags, f.roundedUp)) {
                return;
            }
        }
        cpu.write64(at, low);
        cpu.write16(at + 8, high);
        X87.pop(s);
    }

    private static void exchange(FpuState s, int i) {
        boolean first = X87.empty(s, 0);
        boolean second = X87.empty(s, i);
        if (first || second) {
            if (!X87.underflow(s)) {
                return;
            }
            if (first) {
                X87.writeIndefinite(s, 0);
            }
            if (second) {
                X87.writeIndefinite(s, i);
            }
        } else {
            X87.clear(s, X87.C1);
        }
        int p = X87.physical(s, 0);
        int q = X87.physical(s, i);
        long significand = s.st[p];
        int signExponent = s.stExponent[p];
        s.st[p] = s.st[q];
        s.stExponent[p] = s.stExponent[q];
        s.st[q] = significand;
        s.stExponent[q] = signExponent;
    }

    private static void changeSign(FpuState s, Op op) {
        if (X87.empty(s, 0)) {
            if (X87.underflow(s)) {
                X87.writeIndefinite(s, 0);
            }
            return;
        }
        X87.clear(s, X87.C1);
        int p = X87.physical(s, 0);
        s.stExponent[p] = op == Op.FABS ? s.stExponent[p] & 0x7fff : s.stExponent[p] ^ 0x8000;
    }

    /// FXAM. [SDM Vol. 2 "FXAM"]
    private static void examine(FpuState s) {
        int p = X87.physical(s, 0);
        s.soft.unpack80(s.soft.a, s.st[p], s.stExponent[p]);
        int code;
        if (X87.empty(s, 0)) {
            code = X87.C3 | X87.C0;
        } else {
            code = switch (s.soft.a.kind) {
                case UNSUPPORTED -> 0;
                case QNAN, SNAN -> X87.C0;
                case INFINITE -> X87.C2 | X87.C0;
                case ZERO -> X87.C3;
                case FINITE -> s.soft.a.denormal ? X87.C3 | X87.C2 : X87.C2;
            };
        }
        X87.clear(s, X87.C0 | X87.C1 | X87.C2 | X87.C3);
        s.fsw |= code | ((s.stExponent[p] & 0x8000) != 0 ? X87.C1 : 0);
    }

    /// The constants, from 128-bit significands, rounded as RC says (precision control does not apply).
    private static void constant(FpuState s, Op op) {
        SoftFloat f = s.soft;
        switch (op) {
            case FLDZ -> f.r.set(Kind.ZERO, false);
            case FLD1 -> f.r.finite(false, 0, Long.MIN_VALUE, 0);
            case FLDPI -> f.r.finite(false, 1, 0xc90f_daa2_2168_c234L, 0xc4c6_628b_80dc_1cd1L);
            case FLDL2E -> f.r.finite(false, 0, 0xb8aa_3b29_5c17_f0bbL, 0xbe87_fed0_691d_3e88L);
            case FLDL2T -> f.r.finite(false, 1, 0xd49a_784b_cd1b_8afeL, 0x492b_f6ff_4daf_db4cL);
            case FLDLG2 -> f.r.finite(false, -2, 0x9a20_9a84_fbcf_f798L, 0x8f89_59ac_0b7c_9178L);
            default -> f.r.finite(false, -1, 0xb172_17f7_d1cf_79abL, 0xc9e3_b398_03f2_f6afL);
        }
        if (!X87.empty(s, -1)) {
            X87.pushOverflow(s);
            return;
        }
        // The constants raise no precision exception.
        long significand = f.pack80(64);
        X87.clear(s, X87.C1);
        X87.push(s, significand, f.signExponent);
    }

    private static void conditional(Cpu cpu, Instruction insn) {
        FpuState s = cpu.fpu;
        if (X87.empty(s, 0) || X87.empty(s, insn.reg1)) {
            if (X87.underflow(s)) {
                X87.writeIndefinite(s, 0);
            }
            return;
        }
        long flags = cpu.rflags();
        boolean carry = (flags & 1) != 0;
        boolean parity = (flags & 4) != 0;
        boolean zero = (flags & 0x40) != 0;
        boolean move = switch (insn.op) {
            case FCMOVB -> carry;
            case FCMOVE -> zero;
            case FCMOVBE -> carry || zero;
            case FCMOVU -> parity;
            case FCMOVNB -> !carry;
            case FCMOVNE -> !zero;
            case FCMOVNBE -> !carry && !zero;
            case FCMOVNU -> !parity;
            default -> throw new IllegalStateException(insn.op + " is no x87 move");
        };
        if (move) {
            int p = X87.physical(s, insn.reg1);
            X87.write(s, 0, s.st[p], s.stExponent[p]);
        }
    }
}
