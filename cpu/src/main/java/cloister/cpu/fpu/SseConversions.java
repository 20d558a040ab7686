package cloister.cpu.fpu;

import cloister.cpu.core.Cpu;
import cloister.isa.Instruction;
import cloister.isa.Op;
import cloister.isa.OperandKind;

/// CVT* between binary32, binary64 and integers in XMM, MMX and general registers.
final class SseConversions {
    private SseConversions() {
    }

    static boolean handles(Op op) {
        return switch (op) {
            case CVTDQ2PD, CVTDQ2PS, CVTPD2DQ, CVTPD2PI, CVTPD2PS, CVTPI2PD, CVTPI2PS, CVTPS2DQ, CVTPS2PD, CVTPS2PI, CVTSD2SI,
                 CVTSD2SS, CVTSI2SD, CVTSI2SS, CVTSS2SD, CVTSS2SI, CVTTPD2DQ, CVTTPD2PI, CVTTPS2DQ, CVTTPS2PI, CVTTSD2SI,
                 CVTTSS2SI -> true;
            default -> false;
        };
    }

    static void execute(Cpu cpu, Instruction insn) {
        SoftFloat f = SseFloatInstructions.begin(cpu);
        switch (insn.op) {
            case CVTSI2SD, CVTSI2SS -> fromGeneral(cpu, insn, f);
            case CVTSD2SI, CVTSS2SI -> toGeneral(cpu, insn, f, f.rounding);
            case CVTTSD2SI, CVTTSS2SI -> toGeneral(cpu, insn, f, SoftFloat.TRUNCATE);
            case CVTPI2PS, CVTPI2PD -> fromMmx(cpu, insn, f);
            case CVTPS2PI, CVTPD2PI -> toMmx(cpu, insn, f, f.rounding);
            case CVTTPS2PI, CVTTPD2PI -> toMmx(cpu, insn, f, SoftFloat.TRUNCATE);
            default -> vector(cpu, insn, f);
        }
    }

    private static void fromGeneral(Cpu cpu, Instruction insn, SoftFloat f) {
        long[] x = cpu.fpu.xmm;
        long raw = insn.kind1 == OperandKind.GPR ? cpu.r[insn.reg1]
                : x[SimdOperands.load(cpu, insn, insn.size1, false)];
        long value = insn.size1 == 8 ? raw : (int) raw;
        int d = 2 * insn.reg0;
        if (insn.op == Op.CVTSI2SD) {
            long result = SseArithmetic.fromInteger64(f, value);
            SimdOperands.raise(cpu, f.flags);
            x[d] = result;
        } else {
            int result = SseArithmetic.fromInteger32(f, value);
            SimdOperands.raise(cpu, f.flags);
            x[d] = (x[d] & ~0xffff_ffffL) | (result & 0xffff_ffffL);
        }
    }

    private static void toGeneral(Cpu cpu, Instruction insn, SoftFloat f, int mode) {
        long[] x = cpu.fpu.xmm;
        int s = SimdOperands.source(cpu, insn);
        int bits = insn.size0 == 8 ? 64 : 32;
        boolean wide = insn.op == Op.CVTSD2SI || insn.op == Op.CVTTSD2SI;
        long value = wide ? SseArithmetic.toInteger64(f, x[s], bits, mode)
                : SseArithmetic.toInteger32(f, (int) x[s], bits, mode);
        SimdOperands.raise(cpu, f.flags);
        cpu.r[insn.reg0] = bits == 64 ? value : value & 0xffff_ffffL;
    }

    /// CVTPI2PS and CVTPI2PD. The latter does not touch the x87 state when its source is memory.
    private static void fromMmx(Cpu cpu, Instruction insn, SoftFloat f) {
        FpuState state = cpu.fpu;
        boolean mmx = insn.kind1 == OperandKind.MMX;
        if (mmx || insn.op == Op.CVTPI2PS) {
            SimdOperands.requireMmx(cpu);
        }
        long value = state.st[SimdOperands.mmxSource(cpu, insn)];
        int d = 2 * insn.reg0;
        if (insn.op == Op.CVTPI2PS) {
            long low = PackedInteger.pair(SseArithmetic.fromInteger32(f, (int) value),
                    SseArithmetic.fromInteger32(f, (int) (value >> 32)));
            SimdOperands.raise(cpu, f.flags);
            state.xmm[d] = low;
        } else {
            state.xmm[d] = SseArithmetic.fromInteger64(f, (int) value);
            state.xmm[d + 1] = SseArithmetic.fromInteger64(f, (int) (value >> 32));
        }
        if (mmx || insn.op == Op.CVTPI2PS) {
            SimdOperands.enterMmx(state);
        }
    }

    private static void toMmx(Cpu cpu, Instruction insn, SoftFloat f, int mode) {
        SimdOperands.requireMmx(cpu);
        long[] x = cpu.fpu.xmm;
        int s = SimdOperands.source(cpu, insn);
        boolean wide = insn.op == Op.CVTPD2PI || insn.op == Op.CVTTPD2PI;
        long result = wide ? integers64(f, x[s], x[s + 1], mode) : integers32(f, x[s], mode);
        SimdOperands.raise(cpu, f.flags);
        SimdOperands.writeMmx(cpu.fpu, insn.reg0, result);
    }

    private static long integers32(SoftFloat f, long lanes, int mode) {
        return PackedInteger.pair((int) SseArithmetic.toInteger32(f, (int) lanes, 32, mode),
                (int) SseArithmetic.toInteger32(f, (int) (lanes >>> 32), 32, mode));
    }

    private static long integers64(SoftFloat f, long first, long second, int mode) {
        return PackedInteger.pair((int) SseArithmetic.toInteger64(f, first, 32, mode),
                (int) SseArithmetic.toInteger64(f, second, 32, mode));
    }

    private static void vector(Cpu cpu, Instruction insn, SoftFloat f) {
        long[] x = cpu.fpu.xmm;
        int d = 2 * insn.reg0;
        int s = SimdOperands.source(cpu, insn);
        long sourceLow = x[s];
        long sourceHigh = x[s + 1];
        long low;
        long high = 0;
        switch (insn.op) {
            case CVTSS2SD -> {
                low = SseArithmetic.widen(f, (int) sourceLow);
                high = x[d + 1];
            }
            case CVTSD2SS -> {
                low = (x[d] & ~0xffff_ffffL) | (SseArithmetic.narrow(f, sourceLow) & 0xffff_ffffL);
                high = x[d + 1];
            }
            case CVTPS2PD -> {
                low = SseArithmetic.widen(f, (int) sourceLow);
                high = SseArithmetic.widen(f, (int) (sourceLow >>> 32));
            }
            case CVTPD2PS -> low = PackedInteger.pair(SseArithmetic.narrow(f, sourceLow), SseArithmetic.narrow(f, sourceHigh));
            case CVTDQ2PD -> {
                low = SseArithmetic.fromInteger64(f, (int) sourceLow);
                high = SseArithmetic.fromInteger64(f, (int) (sourceLow >> 32));
            }
            case CVTDQ2PS -> {
                low = singles(f, sourceLow);
                high = singles(f, sourceHigh);
            }
            case CVTPS2DQ -> {
                low = integers32(f, sourceLow, f.rounding);
                high = integers32(f, sourceHigh, f.rounding);
            }
            case CVTTPS2DQ -> {
                low = integers32(f, sourceLow, SoftFloat.TRUNCATE);
                high = integers32(f, sourceHigh, SoftFloat.TRUNCATE);
            }
            case CVTPD2DQ -> low = integers64(f, sourceLow, sourceHigh, f.rounding);
            case CVTTPD2DQ -> low = integers64(f, sourceLow, sourceHigh, SoftFloat.TRUNCATE);
            default -> throw new IllegalStateException(insn.op + " is no conversion");
        }
        SimdOperands.raise(cpu, f.flags);
        x[d] = low;
        x[d + 1] = high;
    }

    private static long singles(SoftFloat f, long lanes) {
        return PackedInteger.pair(SseArithmetic.fromInteger32(f, (int) lanes),
                SseArithmetic.fromInteger32(f, (int) (lanes >> 32)));
    }
}
