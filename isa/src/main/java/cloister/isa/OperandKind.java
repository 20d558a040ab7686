package cloister.isa;

/// What an operand of a decoded [Instruction] names.
public enum OperandKind {
    NONE,
    /// General register; `reg` 0..15. With size 1, registers 16..19 are AH, CH, DH, BH.
    GPR,
    /// The instruction's one memory operand (base, index, scale, displacement of the [Instruction]).
    MEM,
    /// An immediate, already extended as the instruction extends it.
    IMM,
    /// A branch displacement, relative to the next instruction.
    REL,
    /// A far pointer: `imm` is the offset, `imm2` the selector.
    FAR,
    XMM, MMX, ST, SREG, CREG, DREG
}
