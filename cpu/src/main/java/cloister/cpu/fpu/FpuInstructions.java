package cloister.cpu.fpu;

import cloister.cpu.core.Cpu;
import cloister.cpu.core.Handler;
import cloister.isa.Instruction;
import cloister.isa.Op;

/// Everything of this package behind one door: which operations it owns and how they execute.
public final class FpuInstructions {
    private static final Handler[] HANDLERS = new Handler[Op.values().length];

    static {
        for (Op op : Op.values()) {
            HANDLERS[op.ordinal()] = find(op);
        }
    }

    private FpuInstructions() {
    }

    private static Handler find(Op op) {
        Handler fast = SseFastPaths.handler(op);
        if (fast != null) {
            return fast;
        } else if (SseMoves.handles(op)) {
            return SseMoves::execute;
        } else if (SseInteger.handles(op)) {
            return SseInteger::execute;
        } else if (MmxInstructions.handles(op)) {
            return MmxInstructions::execute;
        } else if (SseFloatInstructions.handles(op)) {
            return SseFloatInstructions::execute;
        } else if (X87Instructions.handles(op)) {
            return X87Instructions::execute;
        } else if (StringCompare.handles(op)) {
            return StringCompare::execute;
        } else if (CryptoInstructions.handles(op)) {
            return CryptoInstructions::execute;
        } else if (XsaveInstructions.handles(op)) {
            return XsaveInstructions::execute;
        }
        return null;
    }

    /// Whether this package owns `op`.
    public static boolean handles(Op op) {
        return HANDLERS[op.ordinal()] != null;
    }

    /// The handler of `op`, for engines that bind it once; null when [#handles] is false.
    public static Handler handler(Op op) {
        return HANDLERS[op.ordinal()];
    }

    /// Executes an instruction whose operation [#handles].
    public static void execute(Cpu cpu, Instruction insn) {
        HANDLERS[insn.op.ordinal()].execute(cpu, insn);
    }
}
