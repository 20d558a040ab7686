package cloister.cpu.fpu;

import cloister.cpu.core.Cpu;
import cloister.cpu.fpu.SoftFloat.Kind;
import cloister.isa.Instruction;
import cloister.isa.Op;
import cloister.isa.OperandKind;

/// x87 addition, subtraction, multiplication, division and comparison.
final class X87Arithmetic {
    private X87Arithmetic() {
    }

    static void execute(Cpu cpu, Instruction insn) {
        switch (insn.op) {
            case FADD, FADDP, FIADD, FSUB, FSUBP, FISUB, FSUBR, FSUBRP, FISUBR, FMUL, FMULP, FIMUL, FDIV, FDIVP, FIDIV,
                 FDIVR, FDIVRP, FIDIVR -> binary(cpu, insn);
            default -> compare(cpu, insn);
        }
    }

    private static boolean pops(Op op) {
        return switch (op) {
            case FADDP, FSUBP, FSUBRP, FMULP, FDIVP, FDIVRP, FCOMP, FICOMP, FUCOMP, FCOMIP, FUCOMIP -> true;
            default -> false;
        };
    }

    private static boolean integer(Op op) {
        return switch (op) {
            case FIADD, FISUB, FISUBR, FIMUL, FIDIV, FIDIVR, FICOM, FICOMP -> true;
            default -> false;
        };
    }

    /// Unpacks the memory operand into `f.b`.
    private static void loadMemory(Cpu cpu, Instruction insn) {
        SoftFloat f = cpu.fpu.soft;
        long value = cpu.readOperand(insn, 0);
        if (integer(insn.op)) {
            f.unpackInt(f.b, insn.size0 == 2 ? (short) value : (int) value);
        } else if (insn.size0 == 4) {
            f.unpack32(f.b, (int) value);
        } else {
            f.unpack64(f.b, value);
        }
    }

    private static void binary(Cpu cpu, Instruction insn) {
        FpuState s = cpu.fpu;
        SoftFloat f = s.soft;
        boolean memory = insn.kind0 == OperandKind.MEM;
        int d = memory ? 0 : insn.reg0;
        int source = memory ? 0 : insn.reg1;
        if (memory) {
            loadMemory(cpu, insn);
        }
        boolean pop = pops(insn.op);
        if (X87.empty(s, d) || X87.empty(s, source)) {
            if (X87.underflow(s)) {
                X87.writeIndefinite(s, d);
                if (pop) {
                    X87.pop(s);
                }
            }
            return;
        }
        X87.load(s, f.a, d);
        if (!memory) {
            X87.load(s, f.b, source);
        }
        if (!X87.nan(f)) {
            compute(f, insn.op);
        }
        long significand = f.pack80();
        if (X87.settle(s, f.flags, f.roundedUp)) {
            X87.write(s, d, significand, f.signExponent);
            if (pop) {
                X87.pop(s);
            }
        }
    }

    private static void compute(SoftFloat f, Op op) {
        switch (op) {
            case FADD, FADDP, FIADD -> f.add(false);
            case FSUB, FSUBP, FISUB -> f.add(true);
            case FSUBR, FSUBRP, FISUBR -> {
                f.swap();
                f.add(true);
            }
            case FMUL, FMULP, FIMUL -> f.multiply();
            case FDIV, FDIVP, FIDIV -> f.divide();
            default -> {
                f.swap();
                f.divide();
            }
        }
    }

    private static void compare(Cpu cpu, Instruction insn) {
        FpuState s = cpu.fpu;
        SoftFloat f = s.soft;
        boolean memory = insn.kind0 == OperandKind.MEM;
        if (memory) {
            loadMemory(cpu, insn);
        }
        int other = switch (insn.op) {
            case FCOMPP, FUCOMPP -> 1;
            case FCOMI, FCOMIP, FUCOMI, FUCOMIP -> insn.reg1;
            default -> memory ? 0 : insn.reg0;
        };
        if (insn.op == Op.FTST) {
            other = 0;
            f.b.set(Kind.ZERO, false);
        }
        int order = 2;
        boolean store;
        if (X87.empty(s, 0) || X87.empty(s, other)) {
            store = X87.underflow(s);
        } else {
            X87.load(s, f.a, 0);
            if (!memory && insn.op != Op.FTST) {
                X87.load(s, f.b, other);
            }
            order = order(f, quiet(insn.op));
            store = X87.settle(s, f.flags, false);
        }
        // Condition codes are set even when the exception is unmasked, as silicon does; EFLAGS not for invalid operands.
        boolean toFlags = insn.op == Op.FCOMI || insn.op == Op.FCOMIP || insn.op == Op.FUCOMI || insn.op == Op.FUCOMIP;
        if (store || !toFlags || order != 2) {
            deliver(cpu, insn.op, order);
        }
        if (!store) {
            return;
        }
        if (insn.op == Op.FCOMPP || insn.op == Op.FUCOMPP) {
            X87.pop(s);
            X87.pop(s);
        } else if (pops(insn.op)) {
            X87.pop(s);
        }
    }

    private static boolean quiet(Op op) {
        return switch (op) {
            case FUCOM, FUCOMP, FUCOMPP, FUCOMI, FUCOMIP -> true;
            default -> false;
        };
    }

    /// Unordered 2, else -1, 0, 1; sets IE or DE.
    private static int order(SoftFloat f, boolean quiet) {
        Kind a = f.a.kind;
        Kind b = f.b.kind;
        if (a == Kind.UNSUPPORTED || b == Kind.UNSUPPORTED || a == Kind.SNAN || b == Kind.SNAN) {
            f.flags |= SoftFloat.IE;
            return 2;
        }
        if (a == Kind.QNAN || b == Kind.QNAN) {
            f.flags |= quiet ? 0 : SoftFloat.IE;
            return 2;
        }
        if (f.a.denormal || f.b.denormal) {
            f.flags |= SoftFloat.DE;
        }
        return f.compare();
    }

    private static void deliver(Cpu cpu, Op op, int order) {
        switch (op) {
            case FCOMI, FCOMIP, FUCOMI, FUCOMIP -> cpu.arithmeticFlags(SseFloatInstructions.orderFlags(order));
            default -> {
                int codes = switch (order) {
                    case 0 -> X87.C3;
                    case 1 -> 0;
                    case -1 -> X87.C0;
                    default -> X87.C0 | X87.C2 | X87.C3;
                };
                cpu.fpu.fsw = (cpu.fpu.fsw & ~(X87.C0 | X87.C2 | X87.C3)) | codes;
            }
        }
    }
}
