package cloister.cpu.fpu;

import cloister.cpu.core.Cpu;
import cloister.isa.Instruction;
import cloister.isa.Op;

/// The floating-point arithmetic of SSE to SSE4.1. Results are computed for all lanes, then exceptions are raised, then the
/// destination is written.
final class SseFloatInstructions {
    private SseFloatInstructions() {
    }

    static boolean handles(Op op) {
        return switch (op) {
            case ADDPD, ADDPS, ADDSD, ADDSS, SUBPD, SUBPS, SUBSD, SUBSS, MULPD, MULPS, MULSD, MULSS, DIVPD, DIVPS, DIVSD,
                 DIVSS, MINPD, MINPS, MINSD, MINSS, MAXPD, MAXPS, MAXSD, MAXSS, SQRTPD, SQRTPS, SQRTSD, SQRTSS, CMPPD,
                 CMPPS, CMPSD_XMM, CMPSS, COMISD, COMISS, UCOMISD, UCOMISS, ROUNDPD, ROUNDPS, ROUNDSD, ROUNDSS, RCPPS,
                 RCPSS, RSQRTPS, RSQRTSS, ADDSUBPD, ADDSUBPS, HADDPD, HADDPS, HSUBPD, HSUBPS, DPPD, DPPS -> true;
            default -> SseConversions.handles(op);
        };
    }

    static void execute(Cpu cpu, Instruction insn) {
        switch (insn.op) {
            case ADDSS, ADDSD, ADDPS, ADDPD -> binary(cpu, insn, SseArithmetic.ADD);
            case SUBSS, SUBSD, SUBPS, SUBPD -> binary(cpu, insn, SseArithmetic.SUB);
            case MULSS, MULSD, MULPS, MULPD -> binary(cpu, insn, SseArithmetic.MUL);
            case DIVSS, DIVSD, DIVPS, DIVPD -> binary(cpu, insn, SseArithmetic.DIV);
            case MINSS, MINSD, MINPS, MINPD -> binary(cpu, insn, SseArithmetic.MIN);
            case MAXSS, MAXSD, MAXPS, MAXPD -> binary(cpu, insn, SseArithmetic.MAX);
            case COMISS, COMISD, UCOMISS, UCOMISD -> compareToFlags(cpu, insn);
            case CMPSS, CMPSD_XMM, CMPPS, CMPPD, SQRTSS, SQRTSD, SQRTPS, SQRTPD, ROUNDSS, ROUNDSD, ROUNDPS, ROUNDPD ->
                lanes(cpu, insn);
            case RCPSS, RCPPS, RSQRTSS, RSQRTPS -> approximate(cpu, insn);
            case ADDSUBPD, ADDSUBPS, HADDPD, HADDPS, HSUBPD, HSUBPS, DPPD, DPPS -> horizontal(cpu, insn);
            default -> SseConversions.execute(cpu, insn);
        }
    }

    /// Starts an instruction: checks, and rounding and masks from MXCSR.
    static SoftFloat begin(Cpu cpu) {
        SimdOperands.requireSse(cpu);
        SoftFloat f = cpu.fpu.soft;
        f.fromMxcsr(cpu.fpu.mxcsr);
        return f;
    }

    /// Bytes per lane and whether there is only one, from the operation.
    private static final int SS = 0;
    private static final int SD = 1;
    private static final int PS = 2;
    private static final int PD = 3;

    private static int shape(Op op) {
        return switch (op) {
            case ADDSS, SUBSS, MULSS, DIVSS, MINSS, MAXSS, SQRTSS, CMPSS, ROUNDSS, RCPSS, RSQRTSS -> SS;
            case ADDSD, SUBSD, MULSD, DIVSD, MINSD, MAXSD, SQRTSD, CMPSD_XMM, ROUNDSD -> SD;
            case ADDPD, SUBPD, MULPD, DIVPD, MINPD, MAXPD, SQRTPD, CMPPD, ROUNDPD -> PD;
            default -> PS;
        };
    }

    private static void binary(Cpu cpu, Instruction insn, int operation) {
        SoftFloat f = begin(cpu);
        long[] x = cpu.fpu.xmm;
        int d = 2 * insn.reg0;
        int s = SimdOperands.source(cpu, insn);
        long low;
        long high = x[d + 1];
        switch (shape(insn.op)) {
            case SS -> low = (x[d] & ~0xffff_ffffL)
                    | (SseArithmetic.binary32(f, operation, (int) x[d], (int) x[s]) & 0xffff_ffffL);
            case SD -> low = SseArithmetic.binary64(f, operation, x[d], x[s]);
            case PD -> {
                low = SseArithmetic.binary64(f, operation, x[d], x[s]);
                high = SseArithmetic.binary64(f, operation, x[d + 1], x[s + 1]);
            }
            default -> {
                low = pair32(f, operation, x[d], x[s]);
                high = pair32(f, operation, x[d + 1], x[s + 1]);
            }
        }
        SimdOperands.raise(cpu, f.flags);
        x[d] = low;
        x[d + 1] = high;
    }

    private static long pair32(SoftFloat f, int operation, long a, long b) {
        int low = SseArithmetic.binary32(f, operation, (int) a, (int) b);
        int high = SseArithmetic.binary32(f, operation, (int) (a >>> 32), (int) (b >>> 32));
        return PackedInteger.pair(low, high);
    }

    private static void lanes(Cpu cpu, Instruction insn) {
        SoftFloat f = begin(cpu);
        long[] x = cpu.fpu.xmm;
        int d = 2 * insn.reg0;
        int s = SimdOperands.source(cpu, insn);
        long low;
        long high = x[d + 1];
        switch (shape(insn.op)) {
            case SS -> low = (x[d] & ~0xffff_ffffL) | (lane32(f, insn, (int) x[d], (int) x[s]) & 0xffff_ffffL);
            case SD -> low = lane64(f, insn, x[d], x[s]);
            case PD -> {
                low = lane64(f, insn, x[d], x[s]);
                high = lane64(f, insn, x[d + 1], x[s + 1]);
            }
            default -> {
                low = PackedInteger.pair(lane32(f, insn, (int) x[d], (int) x[s]),
                        lane32(f, insn, (int) (x[d] >>> 32), (int) (x[s] >>> 32)));
                high = PackedInteger.pair(lane32(f, insn, (int) x[d + 1], (int) x[s + 1]),
                        lane32(f, insn, (int) (x[d + 1] >>> 32), (int) (x[s + 1] >>> 32)));
            }
        }
        SimdOperands.raise(cpu, f.flags);
        x[d] = low;
        x[d + 1] = high;
    }

    private static long lane64(SoftFloat f, Instruction insn, long a, long b) {
        int control = (int) insn.imm;
        return switch (insn.op) {
            case SQRTSD, SQRTPD -> SseArithmetic.sqrt64(f, b);
            case ROUNDSD, ROUNDPD -> SseArithmetic.round64(f, b, control);
            default -> {
                int order = SseArithmetic.compare64(f, a, b, SseArithmetic.signaling(control));
                yield SseArithmetic.satisfies(control, order) ? -1 : 0;
            }
        };
    }

    private static int lane32(SoftFloat f, Instruction insn, int a, int b) {
        int control = (int) insn.imm;
        return switch (insn.op) {
            case SQRTSS, SQRTPS -> SseArithmetic.sqrt32(f, b);
            case ROUNDSS, ROUNDPS -> SseArithmetic.round32(f, b, control);
            default -> {
                int order = SseArithmetic.compare32(f, a, b, SseArithmetic.signaling(control));
                yield SseArithmetic.satisfies(control, order) ? -1 : 0;
            }
        };
    }

    private static void compareToFlags(Cpu cpu, Instruction insn) {
        SoftFloat f = begin(cpu);
        long[] x = cpu.fpu.xmm;
        int d = 2 * insn.reg0;
        int s = SimdOperands.source(cpu, insn);
        boolean signaling = insn.op == Op.COMISS || insn.op == Op.COMISD;
        int order = insn.op == Op.COMISD || insn.op == Op.UCOMISD
                ? SseArithmetic.compare64(f, x[d], x[s], signaling)
                : SseArithmetic.compare32(f, (int) x[d], (int) x[s], signaling);
        SimdOperands.raise(cpu, f.flags);
        cpu.arithmeticFlags(orderFlags(order));
    }

    /// ZF, PF and CF of a comparison's result. [SDM Vol. 2 "COMISD"]
    static int orderFlags(int order) {
        return switch (order) {
            case 0 -> 0x40;
            case 1 -> 0;
            case -1 -> 1;
            default -> 0x45;
        };
    }

    private static void approximate(Cpu cpu, Instruction insn) {
        SimdOperands.requireSse(cpu);
        long[] x = cpu.fpu.xmm;
        int d = 2 * insn.reg0;
        int s = SimdOperands.source(cpu, insn);
        boolean root = insn.op == Op.RSQRTSS || insn.op == Op.RSQRTPS;
        if (insn.op == Op.RCPSS || insn.op == Op.RSQRTSS) {
            x[d] = (x[d] & ~0xffff_ffffL) | (approximate(root, (int) x[s]) & 0xffff_ffffL);
            return;
        }
        x[d] = PackedInteger.pair(approximate(root, (int) x[s]), approximate(root, (int) (x[s] >>> 32)));
        x[d + 1] = PackedInteger.pair(approximate(root, (int) x[s + 1]), approximate(root, (int) (x[s + 1] >>> 32)));
    }

    private static int approximate(boolean root, int a) {
        return root ? SseArithmetic.reciprocalRoot(a) : SseArithmetic.reciprocal(a);
    }

    private static void horizontal(Cpu cpu, Instruction insn) {
        SoftFloat f = begin(cpu);
        long[] x = cpu.fpu.xmm;
        int d = 2 * insn.reg0;
        int s = SimdOperands.source(cpu, insn);
        int sub = SseArithmetic.SUB;
        int add = SseArithmetic.ADD;
        long low;
        long high;
        switch (insn.op) {
            case ADDSUBPD -> {
                low = SseArithmetic.binary64(f, sub, x[d], x[s]);
                high = SseArithmetic.binary64(f, add, x[d + 1], x[s + 1]);
            }
            case ADDSUBPS -> {
                low = addSub32(f, x[d], x[s]);
                high = addSub32(f, x[d + 1], x[s + 1]);
            }
            case HADDPD, HSUBPD -> {
                int operation = insn.op == Op.HADDPD ? add : sub;
                low = SseArithmetic.binary64(f, operation, x[d], x[d + 1]);
                high = SseArithmetic.binary64(f, operation, x[s], x[s + 1]);
            }
            case HADDPS, HSUBPS -> {
                int operation = insn.op == Op.HADDPS ? add : sub;
                low = PackedInteger.pair(within32(f, operation, x[d]), within32(f, operation, x[d + 1]));
                high = PackedInteger.pair(within32(f, operation, x[s]), within32(f, operation, x[s + 1]));
            }
            case DPPD -> {
                dotProduct64(cpu, f, x, d, s, (int) insn.imm);
                return;
            }
            default -> {
                dotProduct32(cpu, f, x, d, s, (int) insn.imm);
                return;
            }
        }
        SimdOperands.raise(cpu, f.flags);
        x[d] = low;
        x[d + 1] = high;
    }

    private static long addSub32(SoftFloat f, long a, long b) {
        int low = SseArithmetic.binary32(f, SseArithmetic.SUB, (int) a, (int) b);
        int high = SseArithmetic.binary32(f, SseArithmetic.ADD, (int) (a >>> 32), (int) (b >>> 32));
        return PackedInteger.pair(low, high);
    }

    private static int within32(SoftFloat f, int operation, long a) {
        return SseArithmetic.binary32(f, operation, (int) a, (int) (a >>> 32));
    }

    /// DPPD: unmasked exceptions of the products are raised before the sum is computed.
    private static void dotProduct64(Cpu cpu, SoftFloat f, long[] x, int d, int s, int imm) {
        long p0 = (imm & 0x10) != 0 ? SseArithmetic.binary64(f, SseArithmetic.MUL, x[d], x[s]) : 0;
        long p1 = (imm & 0x20) != 0 ? SseArithmetic.binary64(f, SseArithmetic.MUL, x[d + 1], x[s + 1]) : 0;
        SimdOperands.raise(cpu, f.flags);
        long sum = SseArithmetic.binary64(f, SseArithmetic.ADD, p0, p1);
        SimdOperands.raise(cpu, f.flags);
        x[d] = (imm & 1) != 0 ? sum : 0;
        x[d + 1] = (imm & 2) != 0 ? sum : 0;
    }

    private static void dotProduct32(Cpu cpu, SoftFloat f, long[] x, int d, int s, int imm) {
        int p0 = product32(f, (imm & 0x10) != 0, x[d], x[s]);
        int p1 = product32(f, (imm & 0x20) != 0, x[d] >>> 32, x[s] >>> 32);
        int p2 = product32(f, (imm & 0x40) != 0, x[d + 1], x[s + 1]);
        int p3 = product32(f, (imm & 0x80) != 0, x[d + 1] >>> 32, x[s + 1] >>> 32);
        SimdOperands.raise(cpu, f.flags);
        int first = SseArithmetic.binary32(f, SseArithmetic.ADD, p0, p1);
        int second = SseArithmetic.binary32(f, SseArithmetic.ADD, p2, p3);
        SimdOperands.raise(cpu, f.flags);
        int sum = SseArithmetic.binary32(f, SseArithmetic.ADD, first, second);
        SimdOperands.raise(cpu, f.flags);
        x[d] = PackedInteger.pair((imm & 1) != 0 ? sum : 0, (imm & 2) != 0 ? sum : 0);
        x[d + 1] = PackedInteger.pair((imm & 4) != 0 ? sum : 0, (imm & 8) != 0 ? sum : 0);
    }

    private static int product32(SoftFloat f, boolean wanted, long a, long b) {
        return wanted ? SseArithmetic.binary32(f, SseArithmetic.MUL, (int) a, (int) b) : 0;
    }
}
