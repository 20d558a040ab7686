package cloister.cpu.core;

/// Opcodes of the [Interpreter]'s micro-ops.
///
/// The first word: opcode in bits 7:0, operands `a` 15:8, `b` 23:16 (slots of [Cpu#r]), `c` 31:24, a signed immediate 63:32.
/// A source operand is always `r[b] + immediate`, so that one opcode serves registers (immediate 0) and immediates
/// (b = [Slot#ZERO]). Opcodes marked with (+) have a second word: an address form (base 7:0, index 15:8, scale 23:16, segment slot
/// 31:24, displacement 63:32), a 64-bit immediate or a link.
final class MicroOp {
    /// The code here is gone: look it up again.
    static final int REFETCH = 0;

    static final int MOV64 = 1;
    static final int MOV32 = 2;
    /// (+) 64-bit immediate.
    static final int MOVI = 3;
    static final int INSERT16 = 4;
    static final int INSERT8 = 5;
    static final int ZERO16 = 6;
    static final int ZERO8 = 7;
    static final int SIGN8_64 = 8;
    static final int SIGN16_64 = 9;
    static final int SIGN32_64 = 10;
    static final int SIGN8_32 = 11;
    static final int SIGN16_32 = 12;
    /// (+)
    static final int LEA64 = 13;
    static final int LEA32 = 14;

    /// Loads (+).
    static final int LOAD8 = 16;
    static final int LOAD16 = 17;
    static final int LOAD32 = 18;
    static final int LOAD64 = 19;
    static final int LOAD_S32_64 = 22;
    /// Stores (+) of the source operand.
    static final int STORE8 = 25;
    static final int STORE16 = 26;
    static final int STORE32 = 27;
    static final int STORE64 = 28;

    static final int ADD64 = 32;
    static final int ADD32 = 33;
    static final int SUB64 = 34;
    static final int SUB32 = 35;
    static final int AND64 = 36;
    static final int AND32 = 37;
    static final int OR64 = 38;
    static final int OR32 = 39;
    static final int XOR64 = 40;
    static final int XOR32 = 41;
    /// c: 64 minus operand bits.
    static final int CMP = 42;
    static final int TEST = 43;
    /// c: count.
    static final int SHL64 = 53;
    static final int SHL32 = 54;
    static final int SHR64 = 55;
    static final int SHR32 = 56;
    static final int SAR64 = 57;
    static final int SAR32 = 58;

    /// See [RegisterOps].
    static final int REGISTER = 72;
    /// (+) read-modify-write of memory; a: slot 0xff none; c: operation and size, see [ReadModifyWrite].
    static final int RMW = 74;

    /// a: RSP.
    static final int PUSH = 80;
    /// b: RSP.
    static final int POP = 81;
    static final int LEAVE = 82;

    /// Taken branches within the page: target in the immediate, retired-count difference in bits 23:8 (signed).
    static final int JMP = 96;
    /// c: the result slot.
    static final int JZ = 97;
    static final int JNZ = 98;
    /// c: condition code.
    static final int JCC = 99;
    /// (+) Fused compare and branch; c: shift; second word: target 31:0, difference 47:32, polarity bit 48.
    static final int CMPJ_Z = 100;
    static final int CMPJ_B = 101;
    static final int CMPJ_BE = 102;
    static final int CMPJ_L = 103;
    static final int CMPJ_LE = 104;
    static final int TESTJ_Z = 105;
    static final int TESTJ_S = 106;

    /// (+) Stub behind a branch: immediate is the target's page offset; second word: the branch 31:0, page id 63:32.
    static final int LINK = 112;
    /// a: page slot. To another page: target relative to this page in the immediate; c: 1 when this is the jump itself, 0 in a stub.
    static final int JMP_PAGE = 113;
    /// (+) a: RSP, b: page slot. Second word: page-relative return address.
    static final int CALL = 114;
    /// (+) a: the target. c: 1 when indirect branches are tracked. Second word as in CALL.
    static final int CALL_REG = 115;
    static final int JMP_REG = 116;
    /// a: RSP; immediate: bytes released beyond the address.
    static final int RET = 117;

    /// immediate: index of the instruction.
    static final int GENERIC = 120;
    static final int GENERIC_END = 121;
    /// An instruction that crosses the page end.
    static final int CROSS = 122;

    /// ENDBRANCH where branches are tracked: a move that means nothing, told from any other by its `c`.
    static final long END_BRANCH = word(MOV64, Slot.T0, Slot.ZERO, 0xeb, 0);

    private MicroOp() {
    }

    /// Whether the micro-op compares and branches, its link in the second word.
    static boolean fused(int op) {
        return op >= CMPJ_Z && op <= TESTJ_S;
    }

    static long word(int op, int a, int b, int c, int immediate) {
        return op | ((long) a << 8) | ((long) b << 16) | ((long) (c & 0xff) << 24) | ((long) immediate << 32);
    }

    /// The first word of a branch within the page.
    static long branch(int op, int c, int target, int difference) {
        return op | ((long) (difference & 0xffff) << 8) | ((long) (c & 0xff) << 24) | ((long) target << 32);
    }
}
