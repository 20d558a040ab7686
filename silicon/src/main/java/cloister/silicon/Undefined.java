package cloister.silicon;

import cloister.isa.CodeMode;
import cloister.isa.Instruction;
import cloister.isa.Op;
import cloister.isa.OperandKind;

/// What instructions leave undefined, by their pages in [SDM Vol. 2], and where AMD's manual differs from Intel's.
final class Undefined {
    private static final int CF = 1, PF = 4, AF = 0x10, ZF = 0x40, SF = 0x80, OF = 0x800;

    private Undefined() {
    }

    /// The RFLAGS bits that `i` leaves undefined when it starts from `before`.
    static int flags(Instruction i, MachineState before) {
        return switch (i.op) {
            case AND, OR, XOR, TEST -> AF;
            case MUL, IMUL -> SF | ZF | AF | PF;
            case DIV, IDIV -> CF | OF | SF | ZF | AF | PF;
            case SHL, SHR, SAR -> shift(i, before);
            case ROL, ROR, RCL, RCR -> rotate(i, before);
            case SHLD, SHRD -> doubleShift(i, before);
            case BT, BTS, BTR, BTC -> OF | SF | AF | PF;
            case BSF, BSR -> CF | OF | SF | AF | PF;
            case TZCNT, LZCNT -> OF | SF | AF | PF;
            case BEXTR -> AF | SF | PF;
            case BZHI, ANDN, BLSI, BLSMSK, BLSR -> AF | PF;
            case AAA, AAS -> OF | SF | ZF | PF;
            case DAA, DAS -> OF;
            case AAM, AAD -> OF | AF | CF;
            default -> 0;
        };
    }

    static int count(Instruction i, MachineState before) {
        boolean registerCount = (i.kind1 == OperandKind.GPR && i.kind2 == OperandKind.NONE) || i.kind2 == OperandKind.GPR;
        long count = registerCount ? before.gpr[1] & 0xFF : i.imm;
        return (int) count & (i.operandSize == 8 ? 63 : 31);
    }

    /// OF is defined for counts of 1 only, CF not for counts beyond the size, AF never; a count of 0 changes nothing.
    private static int shift(Instruction i, MachineState before) {
        int count = count(i, before);
        if (count == 0) {
            return 0;
        }
        boolean beyond = count >= 8 * i.operandSize && i.op != Op.SAR;
        return AF | (count != 1 ? OF : 0) | (beyond ? CF : 0);
    }

    private static int rotate(Instruction i, MachineState before) {
        int count = count(i, before);
        return count == 0 || count == 1 ? 0 : OF;
    }

    private static int doubleShift(Instruction i, MachineState before) {
        int count = count(i, before);
        return count == 0 ? 0 : AF | (count != 1 ? OF : 0);
    }

    /// Whether the whole result of `i` is undefined.
    static boolean result(CodeMode mode, Instruction i, MachineState before) {
        return switch (i.op) {
            case SHLD, SHRD -> count(i, before) > 8 * i.operandSize;
            case BSWAP -> i.operandSize == 2;
            // Defined for |ST0| <= 1, and up to 1 - sqrt(2)/2.
            case F2XM1 -> exponent(before) >= 16383;
            case FYL2XP1 -> exponent(before) >= 16383 - 2;
            // Intel requires alignment ["Type 4 Class Exception Conditions"], AMD's processors do not fault.
            case SHA1MSG1, SHA1MSG2, SHA1NEXTE, SHA1RNDS4, SHA256MSG1, SHA256MSG2, SHA256RNDS2 ->
                i.kind1 == OperandKind.MEM && (Addressing.effective(mode, i, before) & 15) != 0;
            default -> false;
        };
    }

    private static int exponent(MachineState state) {
        return state.fx.getShort(MachineState.FX_ST + 8) & 0x7FFF;
    }

    /// Whether Intel's and AMD's manuals differ about C1: Intel clears it in FCOMI and FUCOMI, AMD leaves it.
    static boolean c1(Instruction i) {
        return switch (i.op) {
            case FCOMI, FCOMIP, FUCOMI, FUCOMIP -> true;
            default -> false;
        };
    }

    /// CVTPI2PS with a memory operand: on Intel it switches to MMX like the register form, on AMD it does not.
    static boolean switchesToMmx(Instruction i) {
        return i.op == Op.CVTPI2PS && i.kind1 == OperandKind.MEM;
    }

    /// Whether `i` left a null selector in segment register `segment`.
    static boolean loadsNull(Instruction i, MachineState after, int segment) {
        boolean loads = switch (i.op) {
            case MOV_SREG, POP_SREG, LFS, LGS, IRET, RET_FAR -> true;
            default -> false;
        };
        return loads && (after.segments[segment] & ~3) == 0;
    }

    /// The manuals do not say which part of a large operand faults first.
    static boolean faultOffset(Instruction i) {
        return switch (i.op) {
            case FNSAVE, FRSTOR, FNSTENV, FLDENV, FXSAVE, FXRSTOR, XSAVE, XSAVEC, XRSTOR,
                PUSHA, POPA, ENTER, CMPXCHG16B, FLD, FSTP, FBLD, FBSTP -> true;
            default -> false;
        };
    }

    /// The image in memory that `i` writes holds the x87 instruction and data pointers, which AMD processors keep only while
    /// an exception is pending [APM Vol. 2 "FXSAVE and FXRSTOR Instructions"]: true if the byte at `offset` of it may differ.
    static boolean imageByte(Instruction i, int offset) {
        return switch (i.op) {
            case FXSAVE, XSAVE, XSAVEC -> (offset >= 6 && offset < 24) || (offset >= 28 && offset < 32);
            // Intel's recent processors write the low half of the slot only, AMD's all of it. [SDM Vol. 2 PUSH]
            case PUSH_SREG -> i.operandSize == 4 && (offset == 2 || offset == 3);
            case FNSTENV, FNSAVE -> i.operandSize == 2 ? offset >= 6 && offset < 14 : offset >= 12 && offset < 28;
            default -> false;
        };
    }

    /// Whether `i` computes an approximation or transcendental function of which the manual bounds only the error.
    static boolean approximate(Instruction i) {
        return switch (i.op) {
            case RCPPS, RCPSS, RSQRTPS, RSQRTSS, F2XM1, FYL2X, FYL2XP1, FPTAN, FPATAN, FSIN, FCOS, FSINCOS -> true;
            default -> false;
        };
    }
}
