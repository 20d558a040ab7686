package cloister.silicon;

import static cloister.silicon.Layout.USER_CS32;
import static cloister.silicon.Layout.USER_CS64;

import cloister.isa.CodeMode;
import cloister.isa.Instruction;
import cloister.isa.Op;
import cloister.isa.OperandKind;
import java.util.ArrayList;
import java.util.List;
import java.util.SplittableRandom;

/// What instructions that load segment registers find: selectors, far pointers and frames.
final class SegmentCases {
    private static final int TF = 0x100;
    /// Null, Linux's segments for the user and for itself, one behind the GDT's end.
    private static final int[] SELECTORS = {0, 1, 3, 0x2B, 0x2B, 0x28, 0x29, 0x23, 0x23, 0x33, 0x33,
        0x20, 0x30, 0x10, 0x13, 0x18, 0x08, 0xFFF8};

    private final SplittableRandom random;

    SegmentCases(SplittableRandom random) {
        this.random = random;
    }

    int selector() {
        return SELECTORS[random.nextInt(SELECTORS.length)];
    }

    private int codeSelector() {
        return switch (random.nextInt(4)) {
            case 0 -> USER_CS32;
            case 1, 2 -> USER_CS64;
            default -> selector();
        };
    }

    /// A far pointer in memory, offset first: its quadword for operand sizes 2 and 4.
    long pointer(CodeMode mode, Instruction i, long offset) {
        boolean code = i.op == Op.JMP_FAR || i.op == Op.CALL_FAR || i.op == Op.RET_FAR;
        long selector = code ? codeSelector() : selector();
        if (mode == CodeMode.BITS16 && i.op == Op.CALL_FAR && (selector & ~3) == (USER_CS64 & ~3)) {
            selector = USER_CS32; // the host leaves garbage in RSP above a 16-bit stack pointer, and 64-bit code would use it
        }
        return i.operandSize == 2 ? (offset & 0xFFFF) | (selector << 16) : (offset & 0xFFFF_FFFFL) | (selector << 32);
    }

    /// The words of the frame that `i` (RET_FAR or IRET) pops, in its operand size.
    byte[] frame(CodeMode mode, Instruction i, long offset) {
        List<Long> words = new ArrayList<>(List.of(offset, (long) codeSelector()));
        if (i.op == Op.IRET) {
            words.add(TF | 2 | ((long) random.nextInt() & 0xCD5));
            if (mode == CodeMode.BITS64) {
                words.add((long) Layout.DATA + 0x100 + random.nextInt(0x100));
                words.add((long) (random.nextInt(4) != 0 ? Layout.USER_SS : selector()));
            }
        }
        byte[] bytes = new byte[words.size() * i.operandSize + 8];
        for (int n = 0; n < words.size(); n++) {
            for (int k = 0; k < i.operandSize; k++) {
                bytes[n * i.operandSize + k] = (byte) (words.get(n) >> (8 * k));
            }
        }
        return bytes;
    }

    static boolean takesMemory(Instruction i) {
        return i.kind0 == OperandKind.MEM || i.kind1 == OperandKind.MEM;
    }
}
