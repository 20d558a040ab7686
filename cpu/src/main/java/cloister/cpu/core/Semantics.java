package cloister.cpu.core;

import cloister.cpu.fpu.FpuInstructions;
import cloister.cpu.sys.SystemInstructions;
import cloister.isa.Instruction;
import cloister.isa.Op;
import java.util.Locale;

/// Finds the slow method of every operation.
final class Semantics {
    private static final Handler[] HANDLERS = new Handler[Op.values().length];

    static {
        for (Op op : Op.values()) {
            HANDLERS[op.ordinal()] = find(op);
        }
    }

    private Semantics() {
    }

    /// Never null.
    static Handler handler(Op op) {
        return HANDLERS[op.ordinal()];
    }

    private static Handler find(Op op) {
        return switch (op) {
            case UNKNOWN -> (cpu, insn) -> {
                throw cpu.ud();
            };
            case TOO_LONG -> (cpu, insn) -> {
                throw cpu.gp(0);
            };
            default -> owner(op);
        };
    }

    private static Handler owner(Op op) {
        if (SystemInstructions.handles(op)) {
            return SystemInstructions::execute;
        }
        if (FpuInstructions.handles(op)) {
            return FpuInstructions.handler(op);
        }
        Handler integer = IntegerInstructions.handler(op);
        return integer != null ? integer : Semantics::missing;
    }

    private static void missing(Cpu cpu, Instruction insn) {
        var bytes = new StringBuilder();
        for (byte b : insn.bytes) {
            bytes.append(String.format(Locale.ROOT, "%02x ", b));
        }
        throw new ModelLimit("instruction not modelled: " + insn.op + " (" + bytes.toString().trim() + ")"
                + System.lineSeparator() + cpu.dump());
    }

    /// Whether the instruction may change where or how execution goes on (control transfer, mode, rights, events), so that
    /// the engine must look afresh after it.
    static boolean endsRun(Op op) {
        return switch (op) {
            case LFENCE, MFENCE, SFENCE, PREFETCHNTA, PREFETCHT0, PREFETCHT1, PREFETCHT2, PREFETCHW, CLDEMOTE,
                 NOP, ENDBR32, ENDBR64, RDSSP, PAUSE, FXSAVE, XSAVE, XSAVEC, XSAVEOPT -> false;
            case UNKNOWN, TOO_LONG, TRUNCATED, UD0, UD1, UD2, JMP, JCC, JCXZ, LOOP, LOOPE, LOOPNE, XBEGIN, XEND, CALL, RET,
                 MOVS, STOS, LODS, CMPS, SCAS, RDRAND, RDSEED, XRSTOR, XRSTORS -> true;
            default -> SystemInstructions.handles(op);
        };
    }
}
