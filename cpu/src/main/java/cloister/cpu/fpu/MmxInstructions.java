package cloister.cpu.fpu;

import cloister.cpu.core.Cpu;
import cloister.isa.Instruction;
import cloister.isa.Op;
import cloister.isa.OperandKind;

/// The instructions that exist with MMX operands only, and the MMX forms of those that [SseInteger] shares.
final class MmxInstructions {
    private MmxInstructions() {
    }

    static boolean handles(Op op) {
        return switch (op) {
            case EMMS, MASKMOVQ, MOVNTQ, PSHUFW -> true;
            default -> false;
        };
    }

    static void execute(Cpu cpu, Instruction insn) {
        SimdOperands.requireMmx(cpu);
        FpuState s = cpu.fpu;
        switch (insn.op) {
            case EMMS -> {
                s.fsw &= ~0x3800;
                s.tags = 0;
            }
            case MASKMOVQ -> {
                long at = cpu.linear(insn.segment, SseMoves.implicitDestination(cpu, insn), 8, true);
                SseMoves.storeBytes(cpu, at, s.st[insn.reg0], 0, PackedInteger.signMaskB(s.st[insn.reg1]));
                SimdOperands.enterMmx(s);
            }
            case MOVNTQ -> {
                SimdOperands.store64(cpu, insn, s.st[insn.reg1]);
                SimdOperands.enterMmx(s);
            }
            case PMOVMSKB -> {
                cpu.r[insn.reg0] = PackedInteger.signMaskB(s.st[insn.reg1]);
                SimdOperands.enterMmx(s);
            }
            case PEXTRW -> {
                cpu.r[insn.reg0] = (s.st[insn.reg1] >>> (16 * ((int) insn.imm & 3))) & 0xffff;
                SimdOperands.enterMmx(s);
            }
            case PINSRW -> {
                int shift = 16 * ((int) insn.imm & 3);
                long value = SseMoves.scalar(cpu, insn, 2) & 0xffff;
                SimdOperands.writeMmx(s, insn.reg0, (s.st[insn.reg0] & ~(0xffffL << shift)) | (value << shift));
            }
            default -> {
                long b = insn.kind1 == OperandKind.IMM ? insn.imm & 0xff : s.st[SimdOperands.mmxSource(cpu, insn)];
                SimdOperands.writeMmx(s, insn.reg0, compute(insn, s.st[insn.reg0], b));
            }
        }
    }

    private static long compute(Instruction insn, long a, long b) {
        return switch (insn.op) {
            case PSHUFW -> PackedInteger.shuffleW(b, (int) insn.imm);
            case PSHUFB -> PackedInteger.shuffleB(a, b);
            case PALIGNR -> align(a, b, (int) insn.imm & 0xff);
            case PACKSSWB -> PackedInteger.packSignedWB(a, b);
            case PACKUSWB -> PackedInteger.packUnsignedWB(a, b);
            case PACKSSDW -> PackedInteger.packSignedDW(a, b);
            case PUNPCKLBW -> PackedInteger.interleaveB((int) a, (int) b);
            case PUNPCKHBW -> PackedInteger.interleaveB((int) (a >> 32), (int) (b >> 32));
            case PUNPCKLWD -> PackedInteger.interleaveW((int) a, (int) b);
            case PUNPCKHWD -> PackedInteger.interleaveW((int) (a >> 32), (int) (b >> 32));
            case PUNPCKLDQ -> PackedInteger.pair((int) a, (int) b);
            case PUNPCKHDQ -> PackedInteger.pair((int) (a >> 32), (int) (b >> 32));
            case PHADDW -> PackedInteger.horizontalAddW(a, b);
            case PHADDD -> PackedInteger.horizontalAddD(a, b);
            case PHADDSW -> PackedInteger.horizontalAddSaturated(a, b);
            case PHSUBW -> PackedInteger.horizontalSubW(a, b);
            case PHSUBD -> PackedInteger.horizontalSubD(a, b);
            case PHSUBSW -> PackedInteger.horizontalSubSaturated(a, b);
            case PSLLW, PSLLD, PSLLQ, PSRLW, PSRLD, PSRLQ, PSRAW, PSRAD -> SseInteger.shift(insn.op, a, b);
            default -> SseInteger.lanes(insn.op, a, b);
        };
    }

    private static long align(long a, long b, int bytes) {
        if (bytes >= 16) {
            return 0;
        }
        int bits = 8 * bytes;
        if (bytes >= 8) {
            return a >>> bits;
        }
        return bits == 0 ? b : (b >>> bits) | (a << (64 - bits));
    }
}
