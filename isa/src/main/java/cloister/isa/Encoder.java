package cloister.isa;

import cloister.isa.Operand.Far;
import cloister.isa.Operand.Gpr;
import cloister.isa.Operand.Imm;
import cloister.isa.Operand.Mem;
import cloister.isa.Operand.Register;
import cloister.isa.Operand.Target;
import cloister.isa.OperandForm.Type;
import java.io.ByteArrayOutputStream;

/// Encodes one instruction by one table row, or finds that operands and row do not go together. Used once per attempt.
final class Encoder {
    private static final int[] SEGMENT_PREFIX = {0x26, 0x2E, 0x36, 0x3E, 0x64, 0x65};
    private static final int[] MANDATORY = {0, 0x66, 0xF3, 0xF2};

    private final CodeMode mode;
    private final InstructionForm form;
    private final int operandSize;
    private final Operand[] operands;
    private final boolean shortTarget;

    private final int addressSize;
    private boolean rexNeeded;
    private boolean rexForbidden;
    private int rex;
    private int vvvv;
    private int opcodeBits;
    private int reg;
    private int modRm = -1;
    private int sib = -1;
    private long disp;
    private int dispSize;
    private Mem memory;
    /// Immediates in order, with their sizes.
    private final long[] imm = new long[2];
    private final int[] immSize = new int[2];
    private final Label[] immLabel = new Label[2];
    private int imms;
    private boolean relative;

    /// The encoding, after [#encode()] succeeded; fields of labels are zero.
    byte[] bytes;
    /// Offsets of the displacement and immediates in [#bytes].
    int dispOffset;
    final int[] immOffset = new int[2];

    Encoder(CodeMode mode, InstructionForm form, int operandSize, Operand[] operands, boolean shortTarget) {
        this.mode = mode;
        this.form = form;
        this.operandSize = operandSize;
        this.operands = operands;
        this.shortTarget = shortTarget;
        addressSize = addressSize();
    }

    private boolean long64() {
        return mode == CodeMode.BITS64;
    }

    private int defaultAddressSize() {
        return switch (mode) {
            case BITS16 -> 2;
            case BITS32 -> 4;
            case BITS64 -> 8;
        };
    }

    private int addressSize() {
        for (Operand operand : operands) {
            if (operand instanceof Mem mem) {
                memory = mem;
                Gpr register = mem.base() != null ? mem.base() : mem.index();
                if (register != null) {
                    return register.size();
                }
                boolean wide = mode == CodeMode.BITS16 && (mem.disp() < -0x8000 || mem.disp() > 0xFFFF);
                return wide ? 4 : defaultAddressSize();
            }
        }
        return defaultAddressSize();
    }

    /// The size of the memory operand by this row, or 0.
    int memorySize() {
        for (int i = 0; i < operands.length; i++) {
            if (operands[i] instanceof Mem) {
                return form.operands[i].memoryType().bytes(operandSize, addressSize);
            }
        }
        return 0;
    }

    /// Tries; true if the row takes these operands.
    boolean encode(int condition, boolean lock, int repeat) {
        if (form.operands.length != operands.length || (form.longMode != InstructionForm.ANY && form.longMode != (long64() ? 1 : 0))
            || !admitsOperandSize()) {
            return false;
        }
        reg = Math.max(form.digit, 0);
        for (int i = 0; i < operands.length; i++) {
            if (!operand(form.operands[i], operands[i])) {
                return false;
            }
        }
        if (form.modRmFirst != InstructionForm.ANY) {
            modRm = modRm < 0 ? form.modRmFirst : form.modRmFirst | (modRm & 7);
        } else if (modRm >= 0) {
            modRm |= (reg << 3) & 0x38;
        }
        boolean wide = operandSize == 8 && !form.default64 && !form.force64;
        rex |= wide ? 8 : 0;
        if ((rexForbidden && (rex != 0 || rexNeeded)) || (!long64() && (rex != 0 || rexNeeded))) {
            return false;
        }
        write(condition, lock, repeat);
        return true;
    }


    private boolean admitsOperandSize() {
        boolean prefix66 = needs66();
        if (form.byteOperation != (operandSize == 1) || (operandSize == 8 && !long64()) || (operandSize == 8 && form.atMost32)) {
            return false;
        }
        if ((long64() && form.force64 != (operandSize == 8) && form.force64) || (long64() && form.default64 && operandSize == 4)) {
            return false;
        }
        if (prefix66 && (form.prefix == InstructionForm.PREFIX_NONE || form.prefix == InstructionForm.PREFIX_66)) {
            return false;
        }
        return form.operandSize == InstructionForm.ANY || operandSize == 2 << form.operandSize;
    }

    private boolean needs66() {
        return operandSize == (mode == CodeMode.BITS16 ? 4 : 2);
    }

    private boolean operand(OperandForm f, Operand operand) {
        int size = f.type().bytes(operandSize, addressSize);
        return switch (operand) {
            case Gpr gpr -> general(f, gpr, size);
            case Register register -> register(f, register);
            case Mem mem -> memory(f, mem);
            case Imm immediate -> immediate(f, immediate, size);
            case Target target -> target(f, target, size);
            case Far far -> far(f, far, size);
        };
    }

    private boolean general(OperandForm f, Gpr gpr, int size) {
        if (gpr.size() != size) {
            return false;
        }
        boolean high = gpr.number() >= 16;
        int number = high ? gpr.number() - 12 : gpr.number();
        rexForbidden |= high;
        rexNeeded |= !high && size == 1 && number >= 4;
        switch (f.method()) {
            case FIXED_GPR -> {
                return gpr.number() == f.fixed();
            }
            case OPCODE_GPR -> {
                opcodeBits = number & 7;
                rex |= number >> 3;
                return true;
            }
            case VEX_GPR -> vvvv = number;
            case REG_GPR -> register(number);
            case RM_GPR_OR_MEM, RM_GPR -> rm(number);
            default -> {
                return false;
            }
        }
        return true;
    }

    private void register(int number) {
        reg = number & 7;
        rex |= (number >> 1) & 4;
    }

    private void rm(int number) {
        modRm = 0xC0 | (number & 7);
        rex |= number >> 3;
    }

    private boolean register(OperandForm f, Register register) {
        int number = register.number();
        OperandKind kind = register.kind();
        switch (f.method()) {
            case FIXED_SREG -> {
                return kind == OperandKind.SREG && number == f.fixed();
            }
            case FIXED_ST -> {
                return kind == OperandKind.ST && number == 0;
            }
            case FIXED_XMM -> {
                return kind == OperandKind.XMM && number == f.fixed();
            }
            case REG_XMM, REG_MMX, REG_SREG, REG_CREG, REG_DREG -> register(number);
            case RM_XMM_OR_MEM, RM_XMM, RM_MMX_OR_MEM, RM_MMX, RM_ST -> rm(number);
            default -> {
                return false;
            }
        }
        return kind == switch (f.method()) {
            case REG_XMM, RM_XMM_OR_MEM, RM_XMM -> OperandKind.XMM;
            case REG_MMX, RM_MMX_OR_MEM, RM_MMX -> OperandKind.MMX;
            case REG_SREG -> OperandKind.SREG;
            case REG_CREG -> OperandKind.CREG;
            case REG_DREG -> OperandKind.DREG;
            default -> OperandKind.ST;
        };
    }

    private boolean immediate(OperandForm f, Imm immediate, int size) {
        boolean extended = f.method() == OperandForm.Method.IMM_SIGNED || f.type() == Type.Z || f.type() == Type.V;
        switch (f.method()) {
            case ONE -> {
                return immediate.label() == null && immediate.value() == 1;
            }
            case IMM_SIGNED, IMM_UNSIGNED -> { }
            default -> {
                return false;
            }
        }
        if (immediate.label() != null) {
            if (size == 1 || (size == 4 && operandSize == 8 && form.op == Op.MOV)) {
                return false;
            }
        } else if (!fits(immediate.value(), size, extended ? operandSize : size)) {
            return false;
        }
        immediate(immediate.value(), size, immediate.label());
        return true;
    }

    private void immediate(long value, int size, Label label) {
        imm[imms] = value;
        immSize[imms] = size;
        immLabel[imms++] = label;
    }

    /// Whether `value`, as an operand of `width` bytes, comes out of a field of `size` bytes by sign extension.
    private static boolean fits(long value, int size, int width) {
        long bits = 64 - 8L * width;
        boolean inWidth = width == 8 || (value >= -(1L << (8 * width - 1)) && value < 1L << (8 * width));
        long shift = 64 - 8L * size;
        long truncated = value << shift >> shift;
        return inWidth && (width == size || truncated << bits == value << bits);
    }

    private boolean target(OperandForm f, Target target, int size) {
        if (f.method() != OperandForm.Method.RELATIVE || shortTarget != (f.type() == Type.B)) {
            return false;
        }
        relative = true;
        immediate(0, size, target.label());
        return true;
    }

    private boolean far(OperandForm f, Far far, int size) {
        if (f.method() != OperandForm.Method.FAR_POINTER || far.size() != size) {
            return false;
        }
        immediate(far.offset(), size - 2, far.label());
        immediate(far.selector(), 2, null);
        return true;
    }

    private boolean memory(OperandForm f, Mem mem) {
        boolean admitted = switch (f.method()) {
            case RM_GPR_OR_MEM, RM_XMM_OR_MEM, RM_MMX_OR_MEM, RM_MEM -> true;
            default -> false;
        };
        int size = f.memoryType().bytes(operandSize, addressSize);
        if (!admitted || (mem.size() != 0 && size != 0 && mem.size() != size)) {
            return false;
        }
        if (addressSize == 2) {
            return memory16(mem);
        }
        return memory32(mem);
    }

    private boolean memory16(Mem mem) {
        if (long64() || mem.scale() != 1) {
            return false;
        }
        int base = mem.base() == null ? -1 : mem.base().number();
        int index = mem.index() == null ? -1 : mem.index().number();
        int rm = switch ((base << 8) | (index & 0xFF)) {
            case (3 << 8) | 6 -> 0;
            case (3 << 8) | 7 -> 1;
            case (5 << 8) | 6 -> 2;
            case (5 << 8) | 7 -> 3;
            case (6 << 8) | 0xFF -> 4;
            case (7 << 8) | 0xFF -> 5;
            case (5 << 8) | 0xFF -> 6;
            case (3 << 8) | 0xFF -> 7;
            case -1 -> 8;
            default -> throw new IllegalArgumentException("no 16-bit addressing form for " + mem);
        };
        disp = mem.disp();
        if (rm == 8) {
            modRm = 6;
            dispSize = 2;
        } else if (mem.label() != null || disp != (byte) disp) {
            modRm = 0x80 | rm;
            dispSize = 2;
        } else if (disp != 0 || rm == 6) {
            modRm = 0x40 | rm;
            dispSize = 1;
        } else {
            modRm = rm;
        }
        return true;
    }

    private boolean memory32(Mem mem) {
        disp = mem.disp();
        boolean plainDisp = mem.label() == null;
        if (disp != (int) disp && !(addressSize == 4 && disp >>> 32 == 0)) {
            throw new IllegalArgumentException("displacement does not fit: " + mem);
        }
        if (mem.ripRelative() || (mem.base() == null && mem.index() == null && !long64())) {
            modRm = 5;
            dispSize = 4;
            return true;
        }
        if (mem.base() == null) {
            dispSize = 4;
            modRm = 4;
            sib(mem, 5);
            return true;
        }
        int base = mem.base().number();
        rex |= base >> 3;
        int mod = 0;
        if (!plainDisp || disp != (byte) disp) {
            mod = 2;
            dispSize = 4;
        } else if (disp != 0 || (base & 7) == 5) {
            mod = 1;
            dispSize = 1;
        }
        modRm = (mod << 6) | (base & 7);
        if (mem.index() != null || (base & 7) == 4) {
            modRm = (mod << 6) | 4;
            sib(mem, base & 7);
        }
        return true;
    }

    private void sib(Mem mem, int base) {
        int index = mem.index() == null ? 4 : mem.index().number();
        if (mem.index() != null && index == 4) {
            throw new IllegalArgumentException("the stack pointer cannot be an index");
        }
        rex |= (index >> 2) & 2;
        sib = (Integer.numberOfTrailingZeros(mem.scale()) << 6) | ((index & 7) << 3) | base;
    }

    private void write(int condition, boolean lock, int repeat) {
        ByteArrayOutputStream out = new ByteArrayOutputStream(16);
        if (lock) {
            out.write(0xF0);
        }
        if (memory != null && memory.segment() >= 0) {
            out.write(SEGMENT_PREFIX[memory.segment()]);
        }
        if (addressSize != defaultAddressSize()) {
            out.write(0x67);
        }
        boolean vex = form.map >= InstructionForm.MAP_VEX_0F38;
        if (needs66() && !vex) {
            out.write(0x66);
        }
        if (repeat != 0) {
            out.write(repeat);
        }
        if (vex) {
            out.write(0xC4);
            out.write(((~rex & 7) << 5) | (form.map == InstructionForm.MAP_VEX_0F38 ? 2 : 3));
            out.write(((rex & 8) << 4) | ((~vvvv & 15) << 3) | form.prefix);
        } else {
            legacyOpcode(out);
        }
        out.write(form.opcode + (form.opcodes == 16 ? condition : opcodeBits));
        if (modRm >= 0) {
            out.write(modRm);
        }
        if (sib >= 0) {
            out.write(sib);
        }
        dispOffset = out.size();
        field(out, disp, dispSize);
        for (int i = 0; i < imms; i++) {
            immOffset[i] = out.size();
            field(out, imm[i], immSize[i]);
        }
        bytes = out.toByteArray();
    }

    private void legacyOpcode(ByteArrayOutputStream out) {
        if (form.prefix >= InstructionForm.PREFIX_66 && form.prefix <= InstructionForm.PREFIX_F2) {
            out.write(MANDATORY[form.prefix]);
        }
        if (rex != 0 || rexNeeded) {
            out.write(0x40 | rex);
        }
        switch (form.map) {
            case InstructionForm.MAP_0F -> out.write(0x0F);
            case InstructionForm.MAP_0F38 -> {
                out.write(0x0F);
                out.write(0x38);
            }
            case InstructionForm.MAP_0F3A -> {
                out.write(0x0F);
                out.write(0x3A);
            }
            default -> { }
        }
    }

    private static void field(ByteArrayOutputStream out, long value, int size) {
        for (int i = 0; i < size; i++) {
            out.write((int) (value >> (8 * i)));
        }
    }

    /// Appends the encoding to `buffer`, with fix-ups for its labels.
    void appendTo(CodeBuffer buffer) {
        int at = buffer.length();
        long end = buffer.address() + bytes.length;
        if (memory != null && memory.label() != null) {
            if (memory.ripRelative()) {
                buffer.relative(at + dispOffset, dispSize, memory.label(), memory.disp(), end);
            } else {
                buffer.absolute(at + dispOffset, dispSize, memory.label(), memory.disp());
            }
        }
        for (int i = 0; i < imms; i++) {
            if (immLabel[i] != null && relative) {
                buffer.relative(at + immOffset[i], immSize[i], immLabel[i], imm[i], end);
            } else if (immLabel[i] != null) {
                buffer.absolute(at + immOffset[i], immSize[i], immLabel[i], imm[i]);
            }
        }
        buffer.put(bytes);
    }
}
