package cloister.cpu.fpu;

import cloister.cpu.core.Cpu;
import cloister.isa.Instruction;
import cloister.isa.Op;
import cloister.isa.OperandKind;

import static cloister.cpu.fpu.PackedInteger.HB;
import static cloister.cpu.fpu.PackedInteger.HD;
import static cloister.cpu.fpu.PackedInteger.HW;
import static cloister.cpu.fpu.PackedInteger.LB;
import static cloister.cpu.fpu.PackedInteger.LW;

/// The packed-integer instructions of SSE2 to SSE4.2 on XMM registers; their MMX forms are delegated to [MmxInstructions].
///
/// The static methods work on `x`, the [FpuState#xmm] array, with `d` and `s` the indices of the first word of destination and
/// source.
public final class SseInteger {
    private SseInteger() {
    }

    static boolean handles(Op op) {
        return switch (op) {
            case PABSB, PABSD, PABSW, PADDB, PADDD, PADDQ, PADDSB, PADDSW, PADDUSB, PADDUSW, PADDW, PAND, PANDN, PAVGB,
                 PAVGW, PCMPEQB, PCMPEQD, PCMPEQQ, PCMPEQW, PCMPGTB, PCMPGTD, PCMPGTQ, PCMPGTW, PMADDUBSW, PMADDWD, PMAXSB,
                 PMAXSD, PMAXSW, PMAXUB, PMAXUD, PMAXUW, PMINSB, PMINSD, PMINSW, PMINUB, PMINUD, PMINUW, PMULDQ, PMULHRSW,
                 PMULHUW, PMULHW, PMULLD, PMULLW, PMULUDQ, POR, PSADBW, PSIGNB, PSIGND, PSIGNW, PSUBB, PSUBD, PSUBQ,
                 PSUBSB, PSUBSW, PSUBUSB, PSUBUSW, PSUBW, PXOR, ANDPS, ANDPD, ANDNPS, ANDNPD, ORPS, ORPD, XORPS, XORPD,
                 PSLLW, PSLLD, PSLLQ, PSRLW, PSRLD, PSRLQ, PSRAW, PSRAD, PSLLDQ, PSRLDQ -> true;
            default -> arranges(op);
        };
    }

    private static boolean arranges(Op op) {
        return switch (op) {
            case PMOVMSKB, PTEST, PEXTRW, PINSRW, PACKSSDW, PACKSSWB, PACKUSDW, PACKUSWB, PALIGNR, PBLENDVB, BLENDVPS,
                 BLENDVPD, PBLENDW, BLENDPS, BLENDPD, PHADDD, PHADDSW, PHADDW, PHSUBD, PHSUBSW, PHSUBW, PHMINPOSUW, MPSADBW,
                 PSHUFB, PSHUFD, PSHUFHW, PSHUFLW, SHUFPS, SHUFPD, PUNPCKHBW, PUNPCKHDQ, PUNPCKHQDQ, PUNPCKHWD, PUNPCKLBW,
                 PUNPCKLDQ, PUNPCKLQDQ, PUNPCKLWD, UNPCKHPS, UNPCKLPS, UNPCKHPD, UNPCKLPD, PMOVSXBD, PMOVSXBQ, PMOVSXBW,
                 PMOVSXDQ, PMOVSXWD, PMOVSXWQ, PMOVZXBD, PMOVZXBQ, PMOVZXBW, PMOVZXDQ, PMOVZXWD, PMOVZXWQ -> true;
            default -> false;
        };
    }

    static void execute(Cpu cpu, Instruction insn) {
        if (insn.kind0 == OperandKind.MMX || insn.kind1 == OperandKind.MMX) {
            MmxInstructions.execute(cpu, insn);
            return;
        }
        SimdOperands.requireSse(cpu);
        long[] x = cpu.fpu.xmm;
        int d = 2 * insn.reg0;
        switch (insn.op) {
            case PMOVMSKB -> cpu.r[insn.reg0] = moveMask(x, 2 * insn.reg1);
            case PEXTRW -> SseMoves.extract(cpu, insn, 2);
            case PINSRW -> SseMoves.insert(x, d, (int) insn.imm, 2, SseMoves.scalar(cpu, insn, 2));
            case PTEST -> {
                int s = SimdOperands.source(cpu, insn);
                test(cpu, x[d], x[d + 1], x[s], x[s + 1]);
            }
            case PSLLDQ -> shiftBytesLeft(x, d, (int) insn.imm & 0xff);
            case PSRLDQ -> shiftBytesRight(x, d, (int) insn.imm & 0xff);
            case PSLLW, PSLLD, PSLLQ, PSRLW, PSRLD, PSRLQ, PSRAW, PSRAD -> {
                long count = insn.kind1 == OperandKind.IMM ? insn.imm & 0xff : x[SimdOperands.source(cpu, insn)];
                x[d] = shift(insn.op, x[d], count);
                x[d + 1] = shift(insn.op, x[d + 1], count);
            }
            default -> {
                int s = SimdOperands.source(cpu, insn);
                if (arranges(insn.op)) {
                    arrange(insn, x, d, s);
                } else {
                    x[d] = lanes(insn.op, x[d], x[s]);
                    x[d + 1] = lanes(insn.op, x[d + 1], x[s + 1]);
                }
            }
        }
    }

    /// The operations that treat each quadword alike.
    static long lanes(Op op, long a, long b) {
        return switch (op) {
            case PADDB -> PackedInteger.add(a, b, HB);
            case PADDW -> PackedInteger.add(a, b, HW);
            case PADDD -> PackedInteger.add(a, b, HD);
            case PADDQ -> a + b;
            case PSUBB -> PackedInteger.sub(a, b, HB);
            case PSUBW -> PackedInteger.sub(a, b, HW);
            case PSUBD -> PackedInteger.sub(a, b, HD);
            case PSUBQ -> a - b;
            case PADDSB -> PackedInteger.addSigned(a, b, HB, 8);
            case PADDSW -> PackedInteger.addSigned(a, b, HW, 16);
            case PADDUSB -> PackedInteger.addUnsignedSaturated(a, b, HB, 8);
            case PADDUSW -> PackedInteger.addUnsignedSaturated(a, b, HW, 16);
            case PSUBSB -> PackedInteger.subSigned(a, b, HB, 8);
            case PSUBSW -> PackedInteger.subSigned(a, b, HW, 16);
            case PSUBUSB -> PackedInteger.subUnsignedSaturated(a, b, HB, 8);
            case PSUBUSW -> PackedInteger.subUnsignedSaturated(a, b, HW, 16);
            case PAND, ANDPS, ANDPD -> a & b;
            case PANDN, ANDNPS, ANDNPD -> ~a & b;
            case POR, ORPS, ORPD -> a | b;
            case PXOR, XORPS, XORPD -> a ^ b;
            case PCMPEQB -> PackedInteger.equal(a, b, HB, 8);
            case PCMPEQW -> PackedInteger.equal(a, b, HW, 16);
            case PCMPEQD -> PackedInteger.equal(a, b, HD, 32);
            case PCMPEQQ -> a == b ? -1 : 0;
            case PCMPGTB -> PackedInteger.greater(a, b, HB, 8);
            case PCMPGTW -> PackedInteger.greater(a, b, HW, 16);
            case PCMPGTD -> PackedInteger.greater(a, b, HD, 32);
            case PCMPGTQ -> a > b ? -1 : 0;
            default -> arithmetic(op, a, b);
        };
    }

    private static long arithmetic(Op op, long a, long b) {
        return switch (op) {
            case PABSB -> PackedInteger.abs(b, HB, 8);
            case PABSW -> PackedInteger.abs(b, HW, 16);
            case PABSD -> PackedInteger.abs(b, HD, 32);
            case PSIGNB -> PackedInteger.sign(a, b, HB, 8);
            case PSIGNW -> PackedInteger.sign(a, b, HW, 16);
            case PSIGND -> PackedInteger.sign(a, b, HD, 32);
            case PAVGB -> PackedInteger.average(a, b, LB);
            case PAVGW -> PackedInteger.average(a, b, LW);
            case PMAXSB -> PackedInteger.maxSigned(a, b, HB, 8);
            case PMAXSW -> PackedInteger.maxSigned(a, b, HW, 16);
            case PMAXSD -> PackedInteger.maxSigned(a, b, HD, 32);
            case PMAXUB -> PackedInteger.maxUnsigned(a, b, HB, 8);
            case PMAXUW -> PackedInteger.maxUnsigned(a, b, HW, 16);
            case PMAXUD -> PackedInteger.maxUnsigned(a, b, HD, 32);
            case PMINSB -> PackedInteger.minSigned(a, b, HB, 8);
            case PMINSW -> PackedInteger.minSigned(a, b, HW, 16);
            case PMINSD -> PackedInteger.minSigned(a, b, HD, 32);
            case PMINUB -> PackedInteger.minUnsigned(a, b, HB, 8);
            case PMINUW -> PackedInteger.minUnsigned(a, b, HW, 16);
            case PMINUD -> PackedInteger.minUnsigned(a, b, HD, 32);
            case PMADDWD -> PackedInteger.multiplyAddW(a, b);
            case PMADDUBSW -> PackedInteger.multiplyAddB(a, b);
            case PMULLW -> PackedInteger.mulLowW(a, b);
            case PMULHW -> PackedInteger.mulHighW(a, b);
            case PMULHUW -> PackedInteger.mulHighUnsignedW(a, b);
            case PMULHRSW -> PackedInteger.mulHighRoundedW(a, b);
            case PMULLD -> PackedInteger.mulLowD(a, b);
            case PMULDQ -> (long) (int) a * (int) b;
            case PMULUDQ -> (a & 0xffff_ffffL) * (b & 0xffff_ffffL);
            case PSADBW -> PackedInteger.sumAbsoluteDifferences(a, b);
            default -> throw new IllegalStateException(op + " is no packed-integer instruction");
        };
    }

    /// The shifts of every lane by one count.
    static long shift(Op op, long a, long count) {
        return switch (op) {
            case PSLLW -> PackedInteger.shiftLeftW(a, count);
            case PSLLD -> PackedInteger.shiftLeftD(a, count);
            case PSLLQ -> PackedInteger.shiftLeftQ(a, count);
            case PSRLW -> PackedInteger.shiftRightW(a, count);
            case PSRLD -> PackedInteger.shiftRightD(a, count);
            case PSRLQ -> PackedInteger.shiftRightQ(a, count);
            case PSRAW -> PackedInteger.shiftArithmeticW(a, count);
            default -> PackedInteger.shiftArithmeticD(a, count);
        };
    }

    /// The operations that move lanes across the register. Every case computes both words before it writes one: `d` and `s` may
    /// be the same register.
    private static void arrange(Instruction insn, long[] x, int d, int s) {
        long aLow = x[d];
        long aHigh = x[d + 1];
        long bLow = x[s];
        long bHigh = x[s + 1];
        int imm = (int) insn.imm & 0xff;
        switch (insn.op) {
            case PUNPCKLBW -> set(x, d, PackedInteger.interleaveB((int) aLow, (int) bLow),
                    PackedInteger.interleaveB((int) (aLow >> 32), (int) (bLow >> 32)));
            case PUNPCKHBW -> set(x, d, PackedInteger.interleaveB((int) aHigh, (int) bHigh),
                    PackedInteger.interleaveB((int) (aHigh >> 32), (int) (bHigh >> 32)));
            case PUNPCKLWD -> set(x, d, PackedInteger.interleaveW((int) aLow, (int) bLow),
                    PackedInteger.interleaveW((int) (aLow >> 32), (int) (bLow >> 32)));
            case PUNPCKHWD -> set(x, d, PackedInteger.interleaveW((int) aHigh, (int) bHigh),
                    PackedInteger.interleaveW((int) (aHigh >> 32), (int) (bHigh >> 32)));
            case PUNPCKLDQ, UNPCKLPS -> set(x, d, PackedInteger.pair((int) aLow, (int) bLow),
                    PackedInteger.pair((int) (aLow >> 32), (int) (bLow >> 32)));
            case PUNPCKHDQ, UNPCKHPS -> set(x, d, PackedInteger.pair((int) aHigh, (int) bHigh),
                    PackedInteger.pair((int) (aHigh >> 32), (int) (bHigh >> 32)));
            case PUNPCKLQDQ, UNPCKLPD -> x[d + 1] = bLow;
            case PUNPCKHQDQ, UNPCKHPD -> set(x, d, aHigh, bHigh);
            case PSHUFD -> shuffleD(x, d, s, imm);
            case SHUFPS -> set(x, d, shuffle2D(x, d, d, imm), shuffle2D(x, s, s, imm >> 4));
            case SHUFPD -> set(x, d, (imm & 1) == 0 ? aLow : aHigh, (imm & 2) == 0 ? bLow : bHigh);
            case PSHUFLW -> set(x, d, PackedInteger.shuffleW(bLow, imm), bHigh);
            case PSHUFHW -> set(x, d, bLow, PackedInteger.shuffleW(bHigh, imm));
            case PSHUFB -> set(x, d, shuffleB(aLow, aHigh, bLow), shuffleB(aLow, aHigh, bHigh));
            case PALIGNR -> align(x, d, s, imm);
            case PBLENDVB -> set(x, d, PackedInteger.select(PackedInteger.spread(x[0] & HB, 8), bLow, aLow),
                    PackedInteger.select(PackedInteger.spread(x[1] & HB, 8), bHigh, aHigh));
            case BLENDVPS -> set(x, d, PackedInteger.select(PackedInteger.spread(x[0] & HD, 32), bLow, aLow),
                    PackedInteger.select(PackedInteger.spread(x[1] & HD, 32), bHigh, aHigh));
            case BLENDVPD -> set(x, d, x[0] < 0 ? bLow : aLow, x[1] < 0 ? bHigh : aHigh);
            case PBLENDW -> set(x, d, PackedInteger.select(wordMask(imm), bLow, aLow),
                    PackedInteger.select(wordMask(imm >> 4), bHigh, aHigh));
            case BLENDPS -> set(x, d, PackedInteger.select(doublewordMask(imm), bLow, aLow),
                    PackedInteger.select(doublewordMask(imm >> 2), bHigh, aHigh));
            case BLENDPD -> set(x, d, (imm & 1) == 0 ? aLow : bLow, (imm & 2) == 0 ? aHigh : bHigh);
            default -> combine(insn.op, x, d, s, imm);
        }
    }

    private static void combine(Op op, long[] x, int d, int s, int imm) {
        long aLow = x[d];
        long aHigh = x[d + 1];
        long bLow = x[s];
        long bHigh = x[s + 1];
        switch (op) {
            case PACKSSWB -> set(x, d, PackedInteger.packSignedWB(aLow, aHigh), PackedInteger.packSignedWB(bLow, bHigh));
            case PACKUSWB -> set(x, d, PackedInteger.packUnsignedWB(aLow, aHigh), PackedInteger.packUnsignedWB(bLow, bHigh));
            case PACKSSDW -> set(x, d, PackedInteger.packSignedDW(aLow, aHigh), PackedInteger.packSignedDW(bLow, bHigh));
            case PACKUSDW -> set(x, d, PackedInteger.packUnsignedDW(aLow, aHigh), PackedInteger.packUnsignedDW(bLow, bHigh));
            case PHADDW -> set(x, d, PackedInteger.horizontalAddW(aLow, aHigh), PackedInteger.horizontalAddW(bLow, bHigh));
            case PHADDD -> set(x, d, PackedInteger.horizontalAddD(aLow, aHigh), PackedInteger.horizontalAddD(bLow, bHigh));
            case PHADDSW -> set(x, d, PackedInteger.horizontalAddSaturated(aLow, aHigh),
                    PackedInteger.horizontalAddSaturated(bLow, bHigh));
            case PHSUBW -> set(x, d, PackedInteger.horizontalSubW(aLow, aHigh), PackedInteger.horizontalSubW(bLow, bHigh));
            case PHSUBD -> set(x, d, PackedInteger.horizontalSubD(aLow, aHigh), PackedInteger.horizontalSubD(bLow, bHigh));
            case PHSUBSW -> set(x, d, PackedInteger.horizontalSubSaturated(aLow, aHigh),
                    PackedInteger.horizontalSubSaturated(bLow, bHigh));
            case PHMINPOSUW -> minimumPosition(x, d, s);
            case MPSADBW -> multipleSums(x, d, s, imm);
            case PMOVSXBW -> set(x, d, PackedInteger.widenSignedB((int) bLow), PackedInteger.widenSignedB((int) (bLow >> 32)));
            case PMOVSXBD -> set(x, d, PackedInteger.pair((byte) bLow, (byte) (bLow >> 8)),
                    PackedInteger.pair((byte) (bLow >> 16), (byte) (bLow >> 24)));
            case PMOVSXBQ -> set(x, d, (byte) bLow, (byte) (bLow >> 8));
            case PMOVSXWD -> set(x, d, PackedInteger.widenSignedW((int) bLow), PackedInteger.widenSignedW((int) (bLow >> 32)));
            case PMOVSXWQ -> set(x, d, (short) bLow, (short) (bLow >> 16));
            case PMOVSXDQ -> set(x, d, (int) bLow, bLow >> 32);
            case PMOVZXBW -> set(x, d, PackedInteger.widenB((int) bLow), PackedInteger.widenB((int) (bLow >> 32)));
            case PMOVZXBD -> set(x, d, (bLow & 0xff) | ((bLow & 0xff00) << 24), ((bLow >>> 16) & 0xff) | (((bLow >>> 24) & 0xff) << 32));
            case PMOVZXBQ -> set(x, d, bLow & 0xff, (bLow >>> 8) & 0xff);
            case PMOVZXWD -> set(x, d, PackedInteger.widenW((int) bLow), PackedInteger.widenW((int) (bLow >> 32)));
            case PMOVZXWQ -> set(x, d, bLow & 0xffff, (bLow >>> 16) & 0xffff);
            case PMOVZXDQ -> set(x, d, bLow & 0xffff_ffffL, bLow >>> 32);
            default -> throw new IllegalStateException(op + " is no packed-integer instruction");
        }
    }

    private static void set(long[] x, int d, long low, long high) {
        x[d] = low;
        x[d + 1] = high;
    }

    /// PMOVMSKB.
    public static int moveMask(long[] x, int s) {
        return PackedInteger.signMaskB(x[s]) | (PackedInteger.signMaskB(x[s + 1]) << 8);
    }

    /// PTEST: ZF when no bit is common, CF when the source has no bit outside the destination.
    private static void test(Cpu cpu, long aLow, long aHigh, long bLow, long bHigh) {
        long flags = cpu.rflags() & ~0x8d5L;
        flags |= ((aLow & bLow) | (aHigh & bHigh)) == 0 ? 0x40 : 0;
        flags |= ((~aLow & bLow) | (~aHigh & bHigh)) == 0 ? 1 : 0;
        cpu.rflags(flags);
    }

    static void shiftBytesLeft(long[] x, int d, int bytes) {
        long low = x[d];
        long high = x[d + 1];
        int bits = 8 * bytes;
        if (bytes == 0) {
            return;
        }
        if (bytes < 8) {
            set(x, d, low << bits, (high << bits) | (low >>> (64 - bits)));
        } else {
            set(x, d, 0, bytes < 16 ? low << bits : 0);
        }
    }

    static void shiftBytesRight(long[] x, int d, int bytes) {
        long low = x[d];
        long high = x[d + 1];
        int bits = 8 * bytes;
        if (bytes == 0) {
            return;
        }
        if (bytes < 8) {
            set(x, d, (low >>> bits) | (high << (64 - bits)), high >>> bits);
        } else {
            set(x, d, bytes < 16 ? high >>> bits : 0, 0);
        }
    }

    static void shuffleD(long[] x, int d, int s, int control) {
        set(x, d, shuffle2D(x, s, s, control), shuffle2D(x, s, s, control >> 4));
    }

    /// Doublewords of `x` at `first` and `second` selected by the low two 2-bit fields of `control`.
    private static long shuffle2D(long[] x, int first, int second, int control) {
        int low = (int) (x[first + ((control >> 1) & 1)] >>> (32 * (control & 1)));
        int high = (int) (x[second + ((control >> 3) & 1)] >>> (32 * ((control >> 2) & 1)));
        return PackedInteger.pair(low, high);
    }

    private static long shuffleB(long low, long high, long control) {
        long r = 0;
        for (int n = 0; n < 64; n += 8) {
            int c = (int) (control >>> n);
            if ((c & 0x80) == 0) {
                r |= ((((c & 8) == 0 ? low : high) >>> (8 * (c & 7))) & 0xff) << n;
            }
        }
        return r;
    }

    private static void align(long[] x, int d, int s, int bytes) {
        if (bytes >= 32) {
            set(x, d, 0, 0);
            return;
        }
        int bits = 8 * (bytes & 7);
        int word = bytes >> 3;
        long w0 = alignWord(x, d, s, word);
        long w1 = alignWord(x, d, s, word + 1);
        long w2 = alignWord(x, d, s, word + 2);
        if (bits == 0) {
            set(x, d, w0, w1);
        } else {
            set(x, d, (w0 >>> bits) | (w1 << (64 - bits)), (w1 >>> bits) | (w2 << (64 - bits)));
        }
    }

    /// Word `n` of destination:source, zero beyond.
    private static long alignWord(long[] x, int d, int s, int n) {
        return n < 2 ? x[s + n] : n < 4 ? x[d + n - 2] : 0;
    }

    private static long wordMask(int imm) {
        long bits = (imm & 1) | ((imm & 2) << 15) | ((imm & 4L) << 30) | ((imm & 8L) << 45);
        return (bits << 16) - bits;
    }

    private static long doublewordMask(int imm) {
        return ((imm & 1) == 0 ? 0 : 0xffff_ffffL) | ((imm & 2) == 0 ? 0 : 0xffff_ffffL << 32);
    }

    /// PHMINPOSUW: the smallest unsigned word and its index.
    private static void minimumPosition(long[] x, int d, int s) {
        long best = SseMoves.lane(x, s, 0, 2);
        int at = 0;
        for (int n = 1; n < 8; n++) {
            long value = SseMoves.lane(x, s, n, 2);
            if (value < best) {
                best = value;
                at = n;
            }
        }
        set(x, d, best | ((long) at << 16), 0);
    }

    /// MPSADBW: eight sums of four absolute differences, sliding over the destination.
    private static void multipleSums(long[] x, int d, int s, int imm) {
        int from = 4 * ((imm >> 2) & 1);
        int block = 4 * (imm & 3);
        long low = 0;
        long high = 0;
        for (int n = 0; n < 8; n++) {
            long sum = 0;
            for (int k = 0; k < 4; k++) {
                sum += Math.abs(SseMoves.lane(x, d, from + n + k, 1) - SseMoves.lane(x, s, block + k, 1));
            }
            if (n < 4) {
                low |= sum << (16 * n);
            } else {
                high |= sum << (16 * (n - 4));
            }
        }
        set(x, d, low, high);
    }
}
