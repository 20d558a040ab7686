package cloister.cpu.fpu;

import cloister.cpu.core.Cpu;
import cloister.cpu.core.Handler;
import cloister.isa.Instruction;
import cloister.isa.Op;
import cloister.isa.OperandKind;

/// Handlers of their own for the SSE instructions that programs execute most (string functions, stream ciphers, hashes): they
/// spare the switches of [SseMoves] and [SseInteger], to which the MMX forms go. The semantics are the same static methods.
final class SseFastPaths {
    private SseFastPaths() {
    }

    /// The handler of `op`, or null.
    static Handler handler(Op op) {
        return switch (op) {
            case PXOR, XORPS, XORPD -> SseFastPaths::xor;
            case POR, ORPS, ORPD -> SseFastPaths::or;
            case PAND, ANDPS, ANDPD -> SseFastPaths::and;
            case PANDN, ANDNPS, ANDNPD -> SseFastPaths::andNot;
            case PADDD -> SseFastPaths::addD;
            case PADDQ -> SseFastPaths::addQ;
            case PCMPEQB -> SseFastPaths::equalB;
            case PMINUB -> SseFastPaths::minUnsignedB;
            case PSUBUSB -> SseFastPaths::subUnsignedSaturatedB;
            case PSHUFD -> SseFastPaths::shuffleD;
            case PSLLD -> SseFastPaths::shiftLeftD;
            case PSRLD -> SseFastPaths::shiftRightD;
            case PMOVMSKB -> SseFastPaths::moveMask;
            case MOVUPS, MOVUPD, MOVDQU, LDDQU -> SseFastPaths::moveUnaligned;
            case MOVAPS, MOVAPD, MOVDQA, MOVNTDQ, MOVNTPS -> SseFastPaths::moveAligned;
            case AESENC -> SseFastPaths::aesEncrypt;
            case AESDEC -> SseFastPaths::aesDecrypt;
            default -> null;
        };
    }

    /// Whether the instruction has an MMX operand.
    private static boolean mmx(Instruction insn) {
        return insn.kind0 == OperandKind.MMX || insn.kind1 == OperandKind.MMX;
    }

    private static void xor(Cpu cpu, Instruction insn) {
        if (mmx(insn)) {
            MmxInstructions.execute(cpu, insn);
            return;
        }
        SimdOperands.requireSse(cpu);
        long[] x = cpu.fpu.xmm;
        int d = 2 * insn.reg0;
        int s = SimdOperands.source(cpu, insn);
        x[d] = x[d] ^ x[s];
        x[d + 1] = x[d + 1] ^ x[s + 1];
    }

    private static void or(Cpu cpu, Instruction insn) {
        if (mmx(insn)) {
            MmxInstructions.execute(cpu, insn);
            return;
        }
        SimdOperands.requireSse(cpu);
        long[] x = cpu.fpu.xmm;
        int d = 2 * insn.reg0;
        int s = SimdOperands.source(cpu, insn);
        x[d] = x[d] | x[s];
        x[d + 1] = x[d + 1] | x[s + 1];
    }

    private static void and(Cpu cpu, Instruction insn) {
        if (mmx(insn)) {
            MmxInstructions.execute(cpu, insn);
            return;
        }
        SimdOperands.requireSse(cpu);
        long[] x = cpu.fpu.xmm;
        int d = 2 * insn.reg0;
        int s = SimdOperands.source(cpu, insn);
        x[d] = x[d] & x[s];
        x[d + 1] = x[d + 1] & x[s + 1];
    }

    private static void andNot(Cpu cpu, Instruction insn) {
        if (mmx(insn)) {
            MmxInstructions.execute(cpu, insn);
            return;
        }
        SimdOperands.requireSse(cpu);
        long[] x = cpu.fpu.xmm;
        int d = 2 * insn.reg0;
        int s = SimdOperands.source(cpu, insn);
        x[d] = ~x[d] & x[s];
        x[d + 1] = ~x[d + 1] & x[s + 1];
    }

    private static void addD(Cpu cpu, Instruction insn) {
        if (mmx(insn)) {
            MmxInstructions.execute(cpu, insn);
            return;
        }
        SimdOperands.requireSse(cpu);
        long[] x = cpu.fpu.xmm;
        int d = 2 * insn.reg0;
        int s = SimdOperands.source(cpu, insn);
        x[d] = PackedInteger.add(x[d], x[s], PackedInteger.HD);
        x[d + 1] = PackedInteger.add(x[d + 1], x[s + 1], PackedInteger.HD);
    }

    private static void addQ(Cpu cpu, Instruction insn) {
        if (mmx(insn)) {
            MmxInstructions.execute(cpu, insn);
            return;
        }
        SimdOperands.requireSse(cpu);
        long[] x = cpu.fpu.xmm;
        int d = 2 * insn.reg0;
        int s = SimdOperands.source(cpu, insn);
        x[d] = x[d] + x[s];
        x[d + 1] = x[d + 1] + x[s + 1];
    }

    private static void equalB(Cpu cpu, Instruction insn) {
        if (mmx(insn)) {
            MmxInstructions.execute(cpu, insn);
            return;
        }
        SimdOperands.requireSse(cpu);
        long[] x = cpu.fpu.xmm;
        int d = 2 * insn.reg0;
        int s = SimdOperands.source(cpu, insn);
        x[d] = PackedInteger.equal(x[d], x[s], PackedInteger.HB, 8);
        x[d + 1] = PackedInteger.equal(x[d + 1], x[s + 1], PackedInteger.HB, 8);
    }

    private static void minUnsignedB(Cpu cpu, Instruction insn) {
        if (mmx(insn)) {
            MmxInstructions.execute(cpu, insn);
            return;
        }
        SimdOperands.requireSse(cpu);
        long[] x = cpu.fpu.xmm;
        int d = 2 * insn.reg0;
        int s = SimdOperands.source(cpu, insn);
        x[d] = PackedInteger.minUnsigned(x[d], x[s], PackedInteger.HB, 8);
        x[d + 1] = PackedInteger.minUnsigned(x[d + 1], x[s + 1], PackedInteger.HB, 8);
    }

    private static void subUnsignedSaturatedB(Cpu cpu, Instruction insn) {
        if (mmx(insn)) {
            MmxInstructions.execute(cpu, insn);
            return;
        }
        SimdOperands.requireSse(cpu);
        long[] x = cpu.fpu.xmm;
        int d = 2 * insn.reg0;
        int s = SimdOperands.source(cpu, insn);
        x[d] = PackedInteger.subUnsignedSaturated(x[d], x[s], PackedInteger.HB, 8);
        x[d + 1] = PackedInteger.subUnsignedSaturated(x[d + 1], x[s + 1], PackedInteger.HB, 8);
    }

    private static void shuffleD(Cpu cpu, Instruction insn) {
        SimdOperands.requireSse(cpu);
        long[] x = cpu.fpu.xmm;
        int d = 2 * insn.reg0;
        SseInteger.shuffleD(x, d, SimdOperands.source(cpu, insn), (int) insn.imm);
    }

    private static void shiftLeftD(Cpu cpu, Instruction insn) {
        if (insn.kind0 != OperandKind.XMM || insn.kind1 != OperandKind.IMM) {
            SseInteger.execute(cpu, insn);
            return;
        }
        SimdOperands.requireSse(cpu);
        long[] x = cpu.fpu.xmm;
        int d = 2 * insn.reg0;
        long count = insn.imm & 0xff;
        x[d] = PackedInteger.shiftLeftD(x[d], count);
        x[d + 1] = PackedInteger.shiftLeftD(x[d + 1], count);
    }

    private static void shiftRightD(Cpu cpu, Instruction insn) {
        if (insn.kind0 != OperandKind.XMM || insn.kind1 != OperandKind.IMM) {
            SseInteger.execute(cpu, insn);
            return;
        }
        SimdOperands.requireSse(cpu);
        long[] x = cpu.fpu.xmm;
        int d = 2 * insn.reg0;
        long count = insn.imm & 0xff;
        x[d] = PackedInteger.shiftRightD(x[d], count);
        x[d + 1] = PackedInteger.shiftRightD(x[d + 1], count);
    }

    private static void moveMask(Cpu cpu, Instruction insn) {
        if (mmx(insn)) {
            MmxInstructions.execute(cpu, insn);
            return;
        }
        SimdOperands.requireSse(cpu);
        cpu.r[insn.reg0] = SseInteger.moveMask(cpu.fpu.xmm, 2 * insn.reg1);
    }

    private static void moveUnaligned(Cpu cpu, Instruction insn) {
        SimdOperands.requireSse(cpu);
        SseMoves.move(cpu, insn, false);
    }

    private static void moveAligned(Cpu cpu, Instruction insn) {
        SimdOperands.requireSse(cpu);
        SseMoves.move(cpu, insn, true);
    }

    private static void aesEncrypt(Cpu cpu, Instruction insn) {
        SimdOperands.requireSse(cpu);
        Aes.encrypt(cpu.fpu.xmm, 2 * insn.reg0, SimdOperands.source(cpu, insn));
    }

    private static void aesDecrypt(Cpu cpu, Instruction insn) {
        SimdOperands.requireSse(cpu);
        Aes.decrypt(cpu.fpu.xmm, 2 * insn.reg0, SimdOperands.source(cpu, insn));
    }
}
