package cloister.cpu.fpu;

import cloister.cpu.core.Cpu;
import cloister.isa.Instruction;
import cloister.isa.Op;
import cloister.isa.OperandKind;

/// The x87 instructions: checks, pointers, and who executes what. [SDM Vol. 1 "x87 FPU Instruction Set"]
///
/// The pointers behave as CPUID.7.EBX\[6\] and \[13\] tell: FIP is kept for every non-control instruction, FDP and FOP only
/// for those that raise an unmasked exception, FCS and FDS are zero.
final class X87Instructions {
    private X87Instructions() {
    }

    static boolean handles(Op op) {
        return control(op) || moves(op) || arithmetic(op) || X87Functions.handles(op);
    }

    private static boolean control(Op op) {
        return switch (op) {
            case FNOP, FWAIT, FLDCW, FLDENV, FRSTOR, FNCLEX, FNINIT, FNSAVE, FNSTCW, FNSTENV, FNSTSW -> true;
            default -> false;
        };
    }

    private static boolean moves(Op op) {
        return switch (op) {
            case FLD, FILD, FBLD, FST, FSTP, FIST, FISTP, FISTTP, FBSTP, FLD1, FLDL2E, FLDL2T, FLDLG2, FLDLN2, FLDPI, FLDZ,
                 FXCH, FABS, FCHS, FXAM, FDECSTP, FINCSTP, FFREE, FFREEP, FCMOVB, FCMOVBE, FCMOVE, FCMOVNB, FCMOVNBE,
                 FCMOVNE, FCMOVNU, FCMOVU -> true;
            default -> false;
        };
    }

    private static boolean arithmetic(Op op) {
        return switch (op) {
            case FADD, FADDP, FIADD, FSUB, FSUBP, FISUB, FSUBR, FSUBRP, FISUBR, FMUL, FMULP, FIMUL, FDIV, FDIVP, FIDIV,
                 FDIVR, FDIVRP, FIDIVR, FCOM, FCOMP, FCOMPP, FICOM, FICOMP, FUCOM, FUCOMP, FUCOMPP, FCOMI, FCOMIP,
                 FUCOMI, FUCOMIP, FTST -> true;
            default -> false;
        };
    }

    static void execute(Cpu cpu, Instruction insn) {
        if (control(insn.op)) {
            X87Control.execute(cpu, insn);
            return;
        }
        X87Operands.require(cpu);
        X87Operands.checkPending(cpu);
        FpuState s = cpu.fpu;
        s.soft.fromFcw(s.fcw);
        // The address is computed before registers change; FDP needs it at the end.
        long offset = insn.kind0 == OperandKind.MEM ? cpu.ea(insn) : 0;
        if (moves(insn.op)) {
            X87Moves.execute(cpu, insn);
        } else if (arithmetic(insn.op)) {
            X87Arithmetic.execute(cpu, insn);
        } else {
            X87Functions.execute(s, insn.op);
        }
        s.fip = cpu.rip;
        if ((s.fsw & X87.ES) != 0) {
            s.fop = opcode(insn);
            if (insn.kind0 == OperandKind.MEM) {
                s.fdp = offset;
            }
        }
    }

    /// FOP: the low three bits of the escape byte and the ModRM byte. Prefixes are never D8..DF.
    private static int opcode(Instruction insn) {
        for (int n = 0; n + 1 < insn.length; n++) {
            if ((insn.bytes[n] & 0xf8) == 0xd8) {
                return ((insn.bytes[n] & 7) << 8) | (insn.bytes[n + 1] & 0xff);
            }
        }
        return 0;
    }
}
