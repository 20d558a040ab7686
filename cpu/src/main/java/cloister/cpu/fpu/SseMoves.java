package cloister.cpu.fpu;

import cloister.cpu.core.Cpu;
import cloister.isa.Instruction;
import cloister.isa.Op;
import cloister.isa.OperandKind;

/// SSE instructions that move data: whole and partial registers, lanes to and from general registers, MXCSR.
final class SseMoves {
    private SseMoves() {
    }

    static boolean handles(Op op) {
        return switch (op) {
            case MOVAPS, MOVAPD, MOVDQA, MOVNTPS, MOVNTPD, MOVNTDQ, MOVNTDQA, MOVUPS, MOVUPD, MOVDQU, LDDQU, MOVSS, MOVSD_XMM,
                 MOVD, MOVQ, MOVLPS, MOVLPD, MOVHPS, MOVHPD, MOVHLPS, MOVLHPS, MOVDDUP, MOVSHDUP, MOVSLDUP, MOVMSKPS,
                 MOVMSKPD, MASKMOVDQU, MOVQ2DQ, MOVDQ2Q, LDMXCSR, STMXCSR, EXTRACTPS, INSERTPS, PINSRB, PINSRD, PINSRQ,
                 PEXTRB, PEXTRD, PEXTRQ -> true;
            default -> false;
        };
    }

    static void execute(Cpu cpu, Instruction insn) {
        if (insn.kind0 == OperandKind.MMX || insn.kind1 == OperandKind.MMX) {
            betweenMmx(cpu, insn);
            return;
        }
        SimdOperands.requireSse(cpu);
        switch (insn.op) {
            case MOVAPS, MOVAPD, MOVDQA, MOVNTPS, MOVNTPD, MOVNTDQ, MOVNTDQA -> move(cpu, insn, true);
            case MOVUPS, MOVUPD, MOVDQU, LDDQU -> move(cpu, insn, false);
            case MOVSS -> moveScalar(cpu, insn, 0xffff_ffffL);
            case MOVSD_XMM -> moveScalar(cpu, insn, -1);
            case MOVD, MOVQ -> moveLow(cpu, insn);
            case LDMXCSR -> loadMxcsr(cpu, insn);
            case STMXCSR -> SimdOperands.store32(cpu, insn, cpu.fpu.mxcsr);
            case MASKMOVDQU -> maskedStore(cpu, insn);
            default -> moveLanes(cpu, insn);
        }
    }

    static void move(Cpu cpu, Instruction insn, boolean aligned) {
        long[] x = cpu.fpu.xmm;
        if (insn.kind0 == OperandKind.MEM) {
            SimdOperands.store(cpu, insn, x[2 * insn.reg1], x[2 * insn.reg1 + 1], aligned);
            return;
        }
        int s = insn.kind1 == OperandKind.XMM ? 2 * insn.reg1 : SimdOperands.load(cpu, insn, 16, aligned);
        x[2 * insn.reg0] = x[s];
        x[2 * insn.reg0 + 1] = x[s + 1];
    }

    /// MOVSS and MOVSD: register to register merges, from memory zero-extends.
    private static void moveScalar(Cpu cpu, Instruction insn, long mask) {
        long[] x = cpu.fpu.xmm;
        if (insn.kind0 == OperandKind.MEM) {
            if (mask == -1) {
                SimdOperands.store64(cpu, insn, x[2 * insn.reg1]);
            } else {
                SimdOperands.store32(cpu, insn, x[2 * insn.reg1]);
            }
            return;
        }
        int d = 2 * insn.reg0;
        if (insn.kind1 == OperandKind.XMM) {
            x[d] = (x[d] & ~mask) | (x[2 * insn.reg1] & mask);
            return;
        }
        int s = SimdOperands.load(cpu, insn, mask == -1 ? 8 : 4, false);
        x[d] = x[s];
        x[d + 1] = 0;
    }

    /// MOVD and MOVQ between the low lane of an XMM register and a general register, memory or another XMM register.
    private static void moveLow(Cpu cpu, Instruction insn) {
        long[] x = cpu.fpu.xmm;
        boolean wide = insn.op == Op.MOVQ || insn.size0 == 8 || insn.size1 == 8;
        long value = switch (insn.kind1) {
            case XMM -> x[2 * insn.reg1];
            case GPR -> cpu.r[insn.reg1];
            default -> x[SimdOperands.load(cpu, insn, wide ? 8 : 4, false)];
        };
        value = wide ? value : value & 0xffff_ffffL;
        switch (insn.kind0) {
            case XMM -> {
                x[2 * insn.reg0] = value;
                x[2 * insn.reg0 + 1] = 0;
            }
            case GPR -> cpu.r[insn.reg0] = value;
            default -> {
                if (wide) {
                    SimdOperands.store64(cpu, insn, value);
                } else {
                    SimdOperands.store32(cpu, insn, value);
                }
            }
        }
    }

    /// MOVD, MOVQ, MOVQ2DQ and MOVDQ2Q with an MMX operand.
    private static void betweenMmx(Cpu cpu, Instruction insn) {
        if (insn.op == Op.MOVQ2DQ || insn.op == Op.MOVDQ2Q) {
            SimdOperands.requireSse(cpu);
        }
        SimdOperands.requireMmx(cpu);
        FpuState s = cpu.fpu;
        boolean wide = insn.op != Op.MOVD || (insn.size0 == 8 && insn.kind0 != OperandKind.MMX)
                || (insn.size1 == 8 && insn.kind1 != OperandKind.MMX);
        long value = switch (insn.kind1) {
            case MMX -> s.st[insn.reg1];
            case XMM -> s.xmm[2 * insn.reg1];
            case GPR -> cpu.r[insn.reg1];
            default -> s.xmm[SimdOperands.load(cpu, insn, wide ? 8 : 4, false)];
        };
        value = wide ? value : value & 0xffff_ffffL;
        switch (insn.kind0) {
            case MMX -> SimdOperands.writeMmx(s, insn.reg0, value);
            case XMM -> {
                s.xmm[2 * insn.reg0] = value;
                s.xmm[2 * insn.reg0 + 1] = 0;
            }
            case GPR -> cpu.r[insn.reg0] = value;
            default -> {
                if (wide) {
                    SimdOperands.store64(cpu, insn, value);
                } else {
                    SimdOperands.store32(cpu, insn, value);
                }
            }
        }
        SimdOperands.enterMmx(s);
    }

    private static void loadMxcsr(Cpu cpu, Instruction insn) {
        int value = (int) cpu.fpu.xmm[SimdOperands.load(cpu, insn, 4, false)];
        if ((value & ~FpuState.MXCSR_MASK) != 0) {
            throw cpu.gp(0);
        }
        cpu.fpu.mxcsr = value;
    }

    /// MASKMOVDQU: the bytes whose mask byte has its sign bit set go to DS:\[rDI\].
    private static void maskedStore(Cpu cpu, Instruction insn) {
        long[] x = cpu.fpu.xmm;
        long offset = implicitDestination(cpu, insn);
        long at = cpu.linear(insn.segment, offset, 16, true);
        int d = 2 * insn.reg0;
        int mask = PackedInteger.signMaskB(x[2 * insn.reg1]) | (PackedInteger.signMaskB(x[2 * insn.reg1 + 1]) << 8);
        storeBytes(cpu, at, x[d], x[d + 1], mask);
    }

    /// DS:rDI of the masked stores, of the address size.
    static long implicitDestination(Cpu cpu, Instruction insn) {
        long rdi = cpu.r[7];
        return switch (insn.addressSize) {
            case 2 -> rdi & 0xffff;
            case 4 -> rdi & 0xffff_ffffL;
            default -> rdi;
        };
    }

    /// Writes the bytes selected by `mask`, after making sure that all of them can be written.
    static void storeBytes(Cpu cpu, long at, long low, long high, int mask) {
        if (mask == 0) {
            return;
        }
        int first = Integer.numberOfTrailingZeros(mask);
        int last = 31 - Integer.numberOfLeadingZeros(mask);
        cpu.probeWrite(at + first, last - first + 1);
        for (int n = first; n <= last; n++) {
            if (((mask >> n) & 1) != 0) {
                cpu.write8(at + n, (n < 8 ? low >>> (8 * n) : high >>> (8 * (n - 8))) & 0xff);
            }
        }
    }

    private static void moveLanes(Cpu cpu, Instruction insn) {
        long[] x = cpu.fpu.xmm;
        int d = 2 * insn.reg0;
        switch (insn.op) {
            case MOVHLPS -> x[d] = x[2 * insn.reg1 + 1];
            case MOVLHPS -> x[d + 1] = x[2 * insn.reg1];
            case MOVLPS, MOVLPD -> moveHalf(cpu, insn, 0);
            case MOVHPS, MOVHPD -> moveHalf(cpu, insn, 1);
            case MOVDDUP -> x[d] = x[d + 1] = x[SimdOperands.source(cpu, insn)];
            case MOVSLDUP -> {
                int s = SimdOperands.source(cpu, insn);
                x[d] = (x[s] & 0xffff_ffffL) * PackedInteger.LD;
                x[d + 1] = (x[s + 1] & 0xffff_ffffL) * PackedInteger.LD;
            }
            case MOVSHDUP -> {
                int s = SimdOperands.source(cpu, insn);
                x[d] = (x[s] >>> 32) * PackedInteger.LD;
                x[d + 1] = (x[s + 1] >>> 32) * PackedInteger.LD;
            }
            case MOVMSKPS -> {
                long low = x[2 * insn.reg1];
                long high = x[2 * insn.reg1 + 1];
                cpu.r[insn.reg0] = ((low >>> 31) & 1) | ((low >>> 62) & 2) | ((high >>> 29) & 4) | ((high >>> 60) & 8);
            }
            case MOVMSKPD -> cpu.r[insn.reg0] = (x[2 * insn.reg1] >>> 63) | ((x[2 * insn.reg1 + 1] >>> 62) & 2);
            case INSERTPS -> insertPs(cpu, insn);
            case EXTRACTPS -> extract(cpu, insn, 4);
            case PEXTRB -> extract(cpu, insn, 1);
            case PEXTRD -> extract(cpu, insn, 4);
            case PEXTRQ -> extract(cpu, insn, 8);
            case PINSRB -> insert(x, d, (int) insn.imm, 1, scalar(cpu, insn, 1));
            case PINSRD -> insert(x, d, (int) insn.imm, 4, scalar(cpu, insn, 4));
            case PINSRQ -> insert(x, d, (int) insn.imm, 8, scalar(cpu, insn, 8));
            default -> throw new IllegalStateException(insn.op + " is no SSE move");
        }
    }

    private static void moveHalf(Cpu cpu, Instruction insn, int half) {
        long[] x = cpu.fpu.xmm;
        if (insn.kind0 == OperandKind.MEM) {
            SimdOperands.store64(cpu, insn, x[2 * insn.reg1 + half]);
        } else {
            x[2 * insn.reg0 + half] = x[SimdOperands.load(cpu, insn, 8, false)];
        }
    }

    /// Operand 1 of the insertions: the low bytes of a general register, or memory.
    static long scalar(Cpu cpu, Instruction insn, int size) {
        if (insn.kind1 == OperandKind.GPR) {
            return cpu.r[insn.reg1];
        }
        return cpu.fpu.xmm[SimdOperands.load(cpu, insn, size, false)];
    }

    /// Replaces lane `lane` (modulo their number) of `size` bytes.
    static void insert(long[] x, int d, int lane, int size, long value) {
        int bit = (lane * size * 8) & 127;
        long mask = size == 8 ? -1 : (1L << (8 * size)) - 1;
        int word = d + (bit >> 6);
        x[word] = (x[word] & ~(mask << bit)) | ((value & mask) << bit);
    }

    /// The lane `lane` of `size` bytes, zero-extended.
    static long lane(long[] x, int s, int lane, int size) {
        int bit = (lane * size * 8) & 127;
        long value = x[s + (bit >> 6)] >>> bit;
        return size == 8 ? value : value & ((1L << (8 * size)) - 1);
    }

    /// PEXTRB, PEXTRD, PEXTRQ, EXTRACTPS, and PEXTRW of SSE4.1.
    static void extract(Cpu cpu, Instruction insn, int size) {
        long value = lane(cpu.fpu.xmm, 2 * insn.reg1, (int) insn.imm, size);
        if (insn.kind0 == OperandKind.GPR) {
            cpu.r[insn.reg0] = value;
            return;
        }
        long at = cpu.linear(insn.segment, cpu.ea(insn), size, true);
        switch (size) {
            case 1 -> cpu.write8(at, value);
            case 2 -> cpu.write16(at, value);
            case 4 -> cpu.write32(at, value);
            default -> cpu.write64(at, value);
        }
    }

    private static void insertPs(Cpu cpu, Instruction insn) {
        long[] x = cpu.fpu.xmm;
        int imm = (int) insn.imm;
        long value = insn.kind1 == OperandKind.XMM ? lane(x, 2 * insn.reg1, (imm >> 6) & 3, 4)
                : x[SimdOperands.load(cpu, insn, 4, false)];
        int d = 2 * insn.reg0;
        insert(x, d, (imm >> 4) & 3, 4, value);
        for (int n = 0; n < 4; n++) {
            if (((imm >> n) & 1) != 0) {
                insert(x, d, n, 4, 0);
            }
        }
    }
}
