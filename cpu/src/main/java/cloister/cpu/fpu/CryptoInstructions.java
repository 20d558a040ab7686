package cloister.cpu.fpu;

import cloister.cpu.core.Cpu;
import cloister.isa.Instruction;
import cloister.isa.Op;

/// AES-NI, PCLMULQDQ and the SHA extensions.
final class CryptoInstructions {
    private CryptoInstructions() {
    }

    static boolean handles(Op op) {
        return switch (op) {
            case AESENC, AESENCLAST, AESDEC, AESDECLAST, AESIMC, AESKEYGENASSIST, PCLMULQDQ, SHA1NEXTE, SHA1MSG1, SHA1MSG2,
                 SHA1RNDS4, SHA256RNDS2, SHA256MSG1, SHA256MSG2 -> true;
            default -> false;
        };
    }

    static void execute(Cpu cpu, Instruction insn) {
        SimdOperands.requireSse(cpu);
        long[] x = cpu.fpu.xmm;
        int d = 2 * insn.reg0;
        int s = SimdOperands.source(cpu, insn);
        int imm = (int) insn.imm & 0xff;
        switch (insn.op) {
            case AESENC -> Aes.encrypt(x, d, s);
            case AESENCLAST -> Aes.encryptLast(x, d, s);
            case AESDEC -> Aes.decrypt(x, d, s);
            case AESDECLAST -> Aes.decryptLast(x, d, s);
            case AESIMC -> Aes.inverseMixColumns(x, d, s);
            case AESKEYGENASSIST -> Aes.keyGenerationAssist(x, d, s, imm);
            case PCLMULQDQ -> multiplyCarryless(x, d, s, imm);
            case SHA1NEXTE -> Sha.sha1NextE(x, d, s);
            case SHA1MSG1 -> Sha.sha1Msg1(x, d, s);
            case SHA1MSG2 -> Sha.sha1Msg2(x, d, s);
            case SHA1RNDS4 -> Sha.sha1Rounds4(x, d, s, imm);
            case SHA256RNDS2 -> Sha.sha256Rounds2(x, d, s);
            case SHA256MSG1 -> Sha.sha256Msg1(x, d, s);
            case SHA256MSG2 -> Sha.sha256Msg2(x, d, s);
            default -> throw new IllegalStateException(insn.op + " is no cryptographic instruction");
        }
    }

    static void multiplyCarryless(long[] x, int d, int s, int imm) {
        long a = x[d + (imm & 1)];
        long b = x[s + ((imm >> 4) & 1)];
        x[d] = carrylessLow(a, b);
        // The high half is the low half of the mirrored product.
        x[d + 1] = Long.reverse(carrylessLow(Long.reverse(a), Long.reverse(b))) >>> 1;
    }

    /// The low 64 bits of the carry-less product: ordinary products of operands with holes of three bits, in which carries
    /// cannot reach the next bit that counts.
    static long carrylessLow(long a, long b) {
        final long m0 = 0x1111_1111_1111_1111L;
        final long m1 = m0 << 1;
        final long m2 = m0 << 2;
        final long m3 = m0 << 3;
        long a0 = a & m0;
        long a1 = a & m1;
        long a2 = a & m2;
        long a3 = a & m3;
        long b0 = b & m0;
        long b1 = b & m1;
        long b2 = b & m2;
        long b3 = b & m3;
        return (((a0 * b0) ^ (a1 * b3) ^ (a2 * b2) ^ (a3 * b1)) & m0)
                | (((a0 * b1) ^ (a1 * b0) ^ (a2 * b3) ^ (a3 * b2)) & m1)
                | (((a0 * b2) ^ (a1 * b1) ^ (a2 * b0) ^ (a3 * b3)) & m2)
                | (((a0 * b3) ^ (a1 * b2) ^ (a2 * b1) ^ (a3 * b0)) & m3);
    }
}
