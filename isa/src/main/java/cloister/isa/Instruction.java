package cloister.isa;

/// One decoded instruction. Immutable after decoding and shared by everyone who executes it; fields instead of accessors
/// because execution engines read them on hot paths.
public final class Instruction {
    /// [#base] of a memory operand without base register.
    public static final int NO_REGISTER = -1;
    /// [#base] of a RIP-relative operand; [#disp] is then relative to the next instruction.
    public static final int BASE_RIP = 16;

    public static final int PREFIX_LOCK = 1;
    public static final int PREFIX_REP = 2;
    public static final int PREFIX_REPNE = 4;
    public static final int PREFIX_OPERAND_SIZE = 8;
    public static final int PREFIX_ADDRESS_SIZE = 16;
    public static final int PREFIX_REX = 32;
    public static final int PREFIX_REX_W = 64;
    /// The last segment prefix is 3EH: NOTRACK of a near indirect CALL or JMP. [SDM Vol. 1 "No-track Prefix for Near Indirect
    /// CALL/JMP"]
    public static final int PREFIX_NOTRACK = 128;

    /// The operation; [Op#UNKNOWN] for bytes that are no instruction of ours (they raise #UD or stop the run).
    public final Op op;
    /// Bytes, 1..15.
    public final int length;
    /// The effective operand size in bytes: 1, 2, 4 or 8. For string, stack and branch instructions too.
    public final int operandSize;
    /// The effective address size in bytes: 2, 4 or 8.
    public final int addressSize;
    /// PREFIX_ bits. Of REP and REPNE the last one; prefixes that are part of the opcode (66, F2, F3 of SSE) are left out.
    public final int prefixes;
    /// Condition code 0..15 of Jcc, SETcc, CMOVcc; else 0.
    public final int cc;

    public final OperandKind kind0, kind1, kind2, kind3;
    /// Register numbers of the operands; see [OperandKind].
    public final int reg0, reg1, reg2, reg3;
    /// Operand sizes in bytes (1, 2, 4, 6, 8, 10, 16, 512 ...), of vector registers the part that takes part; 0 where the
    /// size is not in the encoding (LEA, XSAVE). BOUND has twice the operand size, far pointers 4, 6 or 10.
    public final int size0, size1, size2, size3;

    /// Effective segment of the memory operand (0 ES, 1 CS, 2 SS, 3 DS, 4 FS, 5 GS), overrides applied.
    public final int segment;
    /// 0..15, [#BASE_RIP] or [#NO_REGISTER].
    public final int base;
    /// 0..15 or [#NO_REGISTER].
    public final int index;
    /// 0..3: the index is shifted left by this.
    public final int scale;
    /// Sign-extended displacement (or absolute offset of MOV moffs).
    public final long disp;

    /// The first immediate, displacement of a branch, or offset of a far pointer. Operands of the instruction's size are
    /// sign-extended to 64 bits; counts, ports, vectors, selectors of parts and 16-bit frame sizes are zero-extended.
    public final long imm;
    /// The second immediate (ENTER), or the selector of a far pointer.
    public final long imm2;

    /// The bytes, for messages.
    public final byte[] bytes;

    Instruction(InstructionFields f) {
        op = f.op;
        length = f.length;
        operandSize = f.operandSize;
        addressSize = f.addressSize;
        prefixes = f.prefixes;
        cc = f.cc;
        kind0 = f.kind[0];
        kind1 = f.kind[1];
        kind2 = f.kind[2];
        kind3 = f.kind[3];
        reg0 = f.reg[0];
        reg1 = f.reg[1];
        reg2 = f.reg[2];
        reg3 = f.reg[3];
        size0 = f.size[0];
        size1 = f.size[1];
        size2 = f.size[2];
        size3 = f.size[3];
        segment = f.segment;
        base = f.base;
        index = f.index;
        scale = f.scale;
        disp = f.disp;
        imm = f.imm;
        imm2 = f.imm2;
        bytes = f.bytes;
    }

    /// Whether prefix bit `prefix` is present.
    public boolean has(int prefix) {
        return (prefixes & prefix) != 0;
    }
}
