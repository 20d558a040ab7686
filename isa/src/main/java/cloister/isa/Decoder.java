package cloister.isa;

import java.util.Arrays;

/// Turns code bytes into [Instruction]s. Total: any bytes give an instruction, if need be one with [Op#UNKNOWN],
/// [Op#TRUNCATED] or [Op#TOO_LONG]. Keeps working state between calls: one decoder per thread.
public final class Decoder {
    /// An instruction has at most so many bytes. [SDM Vol. 2 "Instruction Format"]
    public static final int MAX_LENGTH = 15;

    private static final int SEGMENT_DEFAULT = -1;
    private static final int SS = 2;
    private static final int DS = 3;
    /// Base, index of the 16-bit addressing forms by ModRM.rm: BX 3, BP 5, SI 6, DI 7.
    private static final int[] BASE16 = {3, 3, 5, 5, 6, 7, 5, 3};
    private static final int[] INDEX16 = {6, 7, 6, 7, -1, -1, -1, -1};

    private final InstructionFields f = new InstructionFields();

    private CodeMode mode;
    private byte[] code;
    private int start;
    private int position;
    private int limit;
    private boolean overrun;

    private int rex;
    private int vvvv;
    private int segment;
    private boolean vex;
    private int opcode;
    private int modRm;
    private int immediates;
    private boolean invalid;

    /// Decodes the instruction at `code[offset]` of which `available` bytes may be read (and exist in `code`). With 15
    /// or more available the result is never [Op#TRUNCATED].
    public Instruction decode(CodeMode codeMode, byte[] bytes, int offset, int available) {
        mode = codeMode;
        code = bytes;
        start = position = offset;
        limit = offset + Math.min(available, MAX_LENGTH);
        overrun = invalid = vex = false;
        rex = vvvv = immediates = 0;
        segment = SEGMENT_DEFAULT;
        f.clear();
        InstructionForm form = findForm();
        if (form != null && !overrun) {
            operands(form);
        }
        if (overrun) {
            f.clear();
            f.op = available < MAX_LENGTH ? Op.TRUNCATED : Op.TOO_LONG;
        } else if (form == null || invalid) {
            int prefixes = f.prefixes;
            f.clear();
            f.prefixes = prefixes;
        }
        f.length = position - start;
        f.bytes = Arrays.copyOfRange(code, start, position);
        return new Instruction(f);
    }

    private int next() {
        if (position >= limit) {
            overrun = true;
            return 0;
        }
        return code[position++] & 0xFF;
    }

    /// Reads prefixes and opcode and walks the decision tree; null if there is no such instruction.
    private InstructionForm findForm() {
        int b = prefixes();
        int map = InstructionForm.MAP_ONE_BYTE;
        if (overrun) {
            return null;
        }
        if (b == 0x0F) {
            b = next();
            map = InstructionForm.MAP_0F;
            if (b == 0x38 || b == 0x3A) {
                map = b == 0x38 ? InstructionForm.MAP_0F38 : InstructionForm.MAP_0F3A;
                b = next();
            }
        } else if ((b == 0xC4 || b == 0xC5) && isVex()) {
            map = vexPrefix(b);
            if (map < 0) {
                return null;
            }
            b = next();
        }
        if (overrun) {
            return null;
        }
        opcode = b;
        f.addressSize = switch (mode) {
            case BITS64 -> f.addressSize != 0 ? 4 : 8;
            case BITS32 -> f.addressSize != 0 ? 2 : 4;
            case BITS16 -> f.addressSize != 0 ? 4 : 2;
        };
        DecodeNode node = OpcodeTable.tree(map, b);
        boolean modRmRead = false;
        while (node.selector != null) {
            if (node.selector == DecodeNode.Selector.MODRM && !modRmRead) {
                modRm = next();
                modRmRead = true;
            }
            node = node.next[select(node.selector)];
        }
        if (node.form != null && node.form.modRm && !modRmRead) {
            modRm = next();
        }
        return node.form;
    }

    private int select(DecodeNode.Selector selector) {
        return switch (selector) {
            case MODE -> mode == CodeMode.BITS64 ? 1 : 0;
            case PREFIX -> prefixClass();
            case REX_B -> rex & 1;
            case OPERAND_SIZE -> (rex & 8) != 0 ? 2 : has(Instruction.PREFIX_OPERAND_SIZE) == (mode == CodeMode.BITS16) ? 1 : 0;
            case MODRM -> modRm;
        };
    }

    private int prefixClass() {
        if (vex) {
            return vvvv & 3;
        }
        return has(Instruction.PREFIX_REP) ? InstructionForm.PREFIX_F3
            : has(Instruction.PREFIX_REPNE) ? InstructionForm.PREFIX_F2
            : has(Instruction.PREFIX_OPERAND_SIZE) ? InstructionForm.PREFIX_66 : InstructionForm.PREFIX_NONE;
    }

    private boolean has(int prefix) {
        return (f.prefixes & prefix) != 0;
    }

    /// Reads legacy and REX prefixes; returns the byte after them. A REX prefix counts only directly before the opcode.
    private int prefixes() {
        while (true) {
            int b = next();
            switch (b) {
                case 0xF0 -> f.prefixes |= Instruction.PREFIX_LOCK;
                case 0xF2 -> f.prefixes = (f.prefixes & ~Instruction.PREFIX_REP) | Instruction.PREFIX_REPNE;
                case 0xF3 -> f.prefixes = (f.prefixes & ~Instruction.PREFIX_REPNE) | Instruction.PREFIX_REP;
                case 0x66 -> f.prefixes |= Instruction.PREFIX_OPERAND_SIZE;
                case 0x67 -> {
                    f.prefixes |= Instruction.PREFIX_ADDRESS_SIZE;
                    f.addressSize = 1;
                }
                case 0x26, 0x2E, 0x36, 0x3E -> {
                    f.prefixes = b == 0x3E ? f.prefixes | Instruction.PREFIX_NOTRACK : f.prefixes & ~Instruction.PREFIX_NOTRACK;
                    if (mode != CodeMode.BITS64) {
                        segment = (b >> 3) & 3;
                    }
                }
                case 0x64, 0x65 -> {
                    f.prefixes &= ~Instruction.PREFIX_NOTRACK;
                    segment = b - 0x60;
                }
                default -> {
                    if (mode != CodeMode.BITS64 || (b & 0xF0) != 0x40) {
                        f.prefixes |= rex != 0 ? Instruction.PREFIX_REX : 0;
                        f.prefixes |= (rex & 8) != 0 ? Instruction.PREFIX_REX_W : 0;
                        return b;
                    }
                }
            }
            rex = (b & 0xF0) == 0x40 && mode == CodeMode.BITS64 ? b : 0;
            if (overrun) {
                return 0;
            }
        }
    }

    /// C4 and C5 are LES and LDS outside 64-bit mode if a memory operand follows.
    private boolean isVex() {
        if (mode == CodeMode.BITS64) {
            return true;
        }
        if (position >= limit) {
            overrun = true;
            return false;
        }
        return (code[position] & 0xC0) == 0xC0;
    }

    /// Reads the rest of a VEX prefix; returns its opcode map or -1 if nothing of ours is there.
    private int vexPrefix(int first) {
        int b1 = next();
        if (first == 0xC5) {
            return -1;
        }
        int b2 = next();
        boolean long64 = mode == CodeMode.BITS64;
        boolean forbidden = has(Instruction.PREFIX_LOCK | Instruction.PREFIX_REP | Instruction.PREFIX_REPNE
            | Instruction.PREFIX_OPERAND_SIZE | Instruction.PREFIX_REX);
        if (overrun || forbidden || (b2 & 4) != 0) {
            return -1;
        }
        vex = true;
        vvvv = b2;
        if (long64) {
            rex = ((~b1 >> 5) & 7) | ((b2 >> 4) & 8);
            f.prefixes |= (rex & 8) != 0 ? Instruction.PREFIX_REX_W : 0;
        }
        return switch (b1 & 0x1F) {
            case 2 -> InstructionForm.MAP_VEX_0F38;
            case 3 -> InstructionForm.MAP_VEX_0F3A;
            default -> -1;
        };
    }

    private void operands(InstructionForm form) {
        f.op = form.op;
        f.cc = form.conditional ? opcode & 15 : 0;
        f.operandSize = operandSize(form);
        f.segment = segment == SEGMENT_DEFAULT ? DS : segment;
        f.prefixes &= ~form.mandatoryPrefix;
        // Displacements precede immediates, whatever the order of the operands.
        OperandForm[] operands = form.operands;
        for (int i = 0; i < operands.length; i++) {
            if (operands[i].method().isRm()) {
                registerOrMemory(i, operands[i]);
            }
        }
        for (int i = 0; i < operands.length; i++) {
            if (!operands[i].method().isRm()) {
                operand(i, operands[i]);
            }
        }
        if ((has(Instruction.PREFIX_LOCK) && !(form.lockable && f.kind[0] == OperandKind.MEM))
            || (vex && !form.usesVvvv && (vvvv & 0x78) != 0x78)) {
            invalid = true;
        }
        if (f.op == Op.MOV_SREG && f.kind[0] == OperandKind.SREG && f.reg[0] == 1) {
            invalid = true; // MOV cannot load CS
        }
    }

    private int operandSize(InstructionForm form) {
        if (form.byteOperation) {
            return 1;
        }
        boolean prefix66 = has(Instruction.PREFIX_OPERAND_SIZE) && form.mandatoryPrefix != Instruction.PREFIX_OPERAND_SIZE;
        int size = switch (mode) {
            case BITS16 -> prefix66 ? 4 : 2;
            case BITS32 -> prefix66 ? 2 : 4;
            case BITS64 -> form.force64 || (rex & 8) != 0 ? 8 : prefix66 ? 2 : form.default64 ? 8 : 4;
        };
        return form.atMost32 && size == 8 ? 4 : size;
    }

    /// The operand in ModRM.rm.
    private void registerOrMemory(int i, OperandForm form) {
        if (modRm < 0xC0 && form.method() != OperandForm.Method.RM_GPR) {
            f.kind[i] = OperandKind.MEM;
            f.size[i] = form.memoryType().bytes(f.operandSize, f.addressSize);
            memoryOperand();
            return;
        }
        int number = (modRm & 7) | ((rex & 1) << 3);
        f.size[i] = form.type().bytes(f.operandSize, f.addressSize);
        switch (form.method()) {
            case RM_XMM_OR_MEM, RM_XMM -> register(i, OperandKind.XMM, number);
            case RM_MMX_OR_MEM, RM_MMX -> register(i, OperandKind.MMX, number & 7);
            case RM_ST -> register(i, OperandKind.ST, number & 7);
            default -> generalRegister(i, number);
        }
    }

    private void register(int i, OperandKind kind, int number) {
        f.kind[i] = kind;
        f.reg[i] = number;
    }

    private void generalRegister(int i, int number) {
        boolean high = f.size[i] == 1 && rex == 0 && number >= 4;
        register(i, OperandKind.GPR, high ? number + 12 : number);
    }

    private void operand(int i, OperandForm form) {
        int size = form.type().bytes(f.operandSize, f.addressSize);
        int reg = (modRm >> 3) & 7;
        int extendedReg = reg | ((rex & 4) << 1);
        f.size[i] = size;
        switch (form.method()) {
            case FIXED_GPR -> register(i, OperandKind.GPR, form.fixed());
            case FIXED_SREG -> register(i, OperandKind.SREG, form.fixed());
            case FIXED_ST -> register(i, OperandKind.ST, 0);
            case FIXED_XMM -> register(i, OperandKind.XMM, form.fixed());
            case ONE -> immediate(i, 1);
            case OPCODE_GPR -> generalRegister(i, (opcode & 7) | ((rex & 1) << 3));
            case VEX_GPR -> register(i, OperandKind.GPR, (~vvvv >> 3) & (mode == CodeMode.BITS64 ? 15 : 7));
            case REG_GPR -> generalRegister(i, extendedReg);
            case REG_XMM -> register(i, OperandKind.XMM, extendedReg);
            case REG_MMX -> register(i, OperandKind.MMX, reg);
            case REG_SREG -> {
                register(i, OperandKind.SREG, reg);
                invalid |= reg > 5;
            }
            case REG_CREG -> {
                register(i, OperandKind.CREG, extendedReg);
                invalid |= extendedReg != 0 && extendedReg != 2 && extendedReg != 3 && extendedReg != 4 && extendedReg != 8;
            }
            case REG_DREG -> {
                register(i, OperandKind.DREG, extendedReg);
                invalid |= extendedReg > 7;
            }
            case IMM_UNSIGNED -> immediateBytes(i, form, size);
            case IMM_SIGNED -> {
                immediate(i, signed(size));
                f.size[i] = f.operandSize;
            }
            case RELATIVE -> {
                f.kind[i] = OperandKind.REL;
                f.imm = signed(size);
                f.size[i] = f.operandSize;
            }
            case FAR_POINTER -> {
                f.kind[i] = OperandKind.FAR;
                f.imm = unsigned(size - 2);
                f.imm2 = unsigned(2);
            }
            case OFFSET -> {
                f.kind[i] = OperandKind.MEM;
                f.disp = unsigned(f.addressSize);
            }
            default -> throw new IllegalStateException(form.toString());
        }
    }

    /// Iz and Iv are operands of the instruction's own size and sign-extended; Ib and Iw are counts, ports and masks.
    private void immediateBytes(int i, OperandForm form, int size) {
        boolean extended = form.type() == OperandForm.Type.Z || form.type() == OperandForm.Type.V;
        immediate(i, extended ? signed(size) : unsigned(size));
        if (extended) {
            f.size[i] = f.operandSize;
        }
    }

    private void immediate(int i, long value) {
        f.kind[i] = OperandKind.IMM;
        if (immediates++ == 0) {
            f.imm = value;
        } else {
            f.imm2 = value;
        }
    }

    private long unsigned(int size) {
        long value = 0;
        for (int i = 0; i < size; i++) {
            value |= (long) next() << (8 * i);
        }
        return value;
    }

    private long signed(int size) {
        int shift = 64 - 8 * size;
        return unsigned(size) << shift >> shift;
    }

    private void memoryOperand() {
        if (f.addressSize == 2) {
            memory16();
        } else {
            memory32();
        }
        if (segment == SEGMENT_DEFAULT && (f.base == 4 || f.base == 5)) {
            f.segment = SS;
        }
    }

    /// [SDM Vol. 2 "16-Bit Addressing Forms with the ModR/M Byte"]
    private void memory16() {
        int mod = modRm >> 6;
        int rm = modRm & 7;
        if (mod == 0 && rm == 6) {
            f.disp = signed(2);
            return;
        }
        f.base = BASE16[rm];
        f.index = INDEX16[rm];
        f.disp = mod == 0 ? 0 : signed(mod);
    }

    /// [SDM Vol. 2 "32-Bit Addressing Forms with the ModR/M Byte", "RIP-Relative Addressing"]
    private void memory32() {
        int mod = modRm >> 6;
        int rm = modRm & 7;
        boolean noBase = false;
        if (rm == 4) {
            int sib = next();
            int index = ((sib >> 3) & 7) | ((rex & 2) << 2);
            f.index = index == 4 ? Instruction.NO_REGISTER : index;
            f.scale = sib >> 6;
            rm = sib & 7;
            noBase = rm == 5 && mod == 0;
        } else if (rm == 5 && mod == 0) {
            f.base = mode == CodeMode.BITS64 ? Instruction.BASE_RIP : Instruction.NO_REGISTER;
            f.disp = signed(4);
            return;
        }
        f.base = noBase ? Instruction.NO_REGISTER : rm | ((rex & 1) << 3);
        f.disp = noBase || mod == 2 ? signed(4) : mod == 1 ? signed(1) : 0;
    }
}
