package cloister.isa;

import java.util.Arrays;

/// The decoder's working copy of an [Instruction]; reused from one decode to the next.
final class InstructionFields {
    Op op;
    int length;
    int operandSize;
    int addressSize;
    int prefixes;
    int cc;
    final OperandKind[] kind = new OperandKind[4];
    final int[] reg = new int[4];
    final int[] size = new int[4];
    int segment;
    int base;
    int index;
    int scale;
    long disp;
    long imm;
    long imm2;
    byte[] bytes;

    void clear() {
        op = Op.UNKNOWN;
        length = operandSize = addressSize = prefixes = cc = segment = scale = 0;
        Arrays.fill(kind, OperandKind.NONE);
        Arrays.fill(reg, 0);
        Arrays.fill(size, 0);
        base = index = Instruction.NO_REGISTER;
        disp = imm = imm2 = 0;
    }
}
