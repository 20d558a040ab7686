package cloister.isa;

import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Set;

/// One row of the instruction tables, parsed: which encodings it stands for and what they mean.
///
/// A row is `opcode | operation | operands | attributes`. Opcode: an optional prefix condition (`NP` none of 66 F2 F3,
/// `NFx` neither F2 nor F3, `66`, `F2`, `F3` mandatory, nothing: no condition), optional size conditions (`o16`, `o32`,
/// `REX.W`; `REX.B0` REX.B clear), the opcode bytes or `VEX.pp.map` and a byte (always VEX.LZ), then `/digit`
/// for ModRM.reg, a ModRM byte, or `+r`, `+cc`, `+i` for a register, condition or x87 register in the last byte.
/// Attributes: the SDM's superscripts `i64`, `o64`, `d64`, `f64`; `lock` LOCK is allowed with a memory destination;
/// `b` byte operation; `z` at most 32-bit operation.
final class InstructionForm {
    static final int ANY = -1;
    /// Opcode maps.
    static final int MAP_ONE_BYTE = 0, MAP_0F = 1, MAP_0F38 = 2, MAP_0F3A = 3, MAP_VEX_0F38 = 4, MAP_VEX_0F3A = 5, MAPS = 6;
    /// Prefix classes, in the order of VEX.pp.
    static final int PREFIX_NONE = 0, PREFIX_66 = 1, PREFIX_F3 = 2, PREFIX_F2 = 3;
    private static final int PREFIX_NFX = 4;

    final Op op;
    final OperandForm[] operands;
    final boolean lockable;
    final boolean default64;
    final boolean force64;
    final boolean byteOperation;
    final boolean atMost32;
    final boolean modRm;
    /// The PREFIX_ bit of [Instruction] that is part of the opcode here, or 0.
    final int mandatoryPrefix;
    final boolean usesVvvv;
    final boolean conditional;

    int map = MAP_ONE_BYTE;
    int opcode;
    /// How many consecutive opcodes the row covers: 8 for `+r`, 16 for `+cc`.
    int opcodes = 1;
    int prefix = ANY;
    /// 0, 1, 2: only with a 16-, 32-, 64-bit operand size.
    int operandSize = ANY;
    boolean rexBClear;
    int digit = ANY;
    int modRmFirst = ANY;
    int modRmLast = ANY;
    final int longMode;
    private final boolean memoryOnly;
    private final boolean registerOnly;

    InstructionForm(String row) {
        String[] column = row.split("\\|", -1);
        if (column.length < 2 || column.length > 4) {
            throw new IllegalArgumentException("columns");
        }
        conditional = column[0].contains("+cc");
        parseOpcode(column[0].strip().split(" +"));
        op = Op.valueOf(column[1].strip());
        operands = parseOperands(column.length > 2 ? column[2].strip() : "");
        Set<String> attributes = attributes(column.length > 3 ? column[3].strip() : "");
        lockable = attributes.remove("lock");
        default64 = attributes.remove("d64");
        force64 = attributes.remove("f64");
        boolean byteAttribute = attributes.remove("b");
        atMost32 = attributes.remove("z");
        longMode = attributes.remove("i64") ? 0 : attributes.remove("o64") ? 1 : ANY;
        if (!attributes.isEmpty()) {
            throw new IllegalArgumentException("attributes " + attributes);
        }
        byteOperation = byteAttribute || (operands.length > 0 && operands[0].isByteDestination());
        boolean usesModRm = digit != ANY || modRmFirst != ANY;
        boolean vvvv = false;
        boolean memory = false;
        boolean register = false;
        boolean modIgnored = false;
        for (OperandForm operand : operands) {
            usesModRm |= operand.method().usesModRm();
            vvvv |= operand.method() == OperandForm.Method.VEX_GPR;
            memory |= operand.method() == OperandForm.Method.RM_MEM;
            switch (operand.method()) {
                case RM_GPR, RM_XMM, RM_MMX, RM_ST -> register = true;
                case REG_CREG, REG_DREG -> modIgnored = true;
                default -> { }
            }
        }
        modRm = usesModRm;
        usesVvvv = vvvv;
        memoryOnly = memory;
        registerOnly = register && !modIgnored;
        mandatoryPrefix = switch (prefix) {
            case PREFIX_66 -> Instruction.PREFIX_OPERAND_SIZE;
            case PREFIX_F3 -> Instruction.PREFIX_REP;
            case PREFIX_F2 -> Instruction.PREFIX_REPNE;
            default -> 0;
        };
        if ((memoryOnly && (registerOnly || modRmFirst != ANY)) || operands.length > 4) {
            throw new IllegalArgumentException("operands");
        }
    }

    private void parseOpcode(String[] token) {
        int n = 0;
        boolean conditions = true;
        while (conditions) {
            switch (token[n]) {
                case "NP" -> prefix = PREFIX_NONE;
                case "NFx" -> prefix = PREFIX_NFX;
                case "66" -> prefix = PREFIX_66;
                case "F3" -> prefix = PREFIX_F3;
                case "F2" -> prefix = PREFIX_F2;
                case "o16" -> operandSize = 0;
                case "o32" -> operandSize = 1;
                case "REX.W" -> operandSize = 2;
                case "REX.B0" -> rexBClear = true;
                default -> conditions = false;
            }
            n += conditions ? 1 : 0;
        }
        n = parseMap(token, n);
        String[] last = token[n++].split("\\+");
        opcode = Integer.parseInt(last[0], 16);
        if (last.length == 2) {
            opcodes = switch (last[1]) {
                case "r" -> 8;
                case "cc" -> 16;
                default -> throw new IllegalArgumentException("opcode suffix " + last[1]);
            };
        }
        if (n < token.length) {
            parseModRm(token[n++]);
        }
        if (n != token.length) {
            throw new IllegalArgumentException("opcode");
        }
    }

    private int parseMap(String[] token, int start) {
        if (token[start].startsWith("VEX.")) {
            String[] part = token[start].split("\\.");
            prefix = List.of("NP", "66", "F3", "F2").indexOf(part[1]);
            map = part[2].equals("0F38") ? MAP_VEX_0F38 : MAP_VEX_0F3A;
            return start + 1;
        }
        if (!token[start].equals("0F")) {
            return start;
        }
        map = switch (token[start + 1]) {
            case "38" -> MAP_0F38;
            case "3A" -> MAP_0F3A;
            default -> MAP_0F;
        };
        return map == MAP_0F ? start + 1 : start + 2;
    }

    private void parseModRm(String token) {
        if (token.startsWith("/")) {
            digit = Integer.parseInt(token.substring(1), 8);
            return;
        }
        boolean range = token.endsWith("+i");
        modRmFirst = Integer.parseInt(range ? token.substring(0, token.length() - 2) : token, 16);
        modRmLast = modRmFirst + (range ? 7 : 0);
    }

    private static OperandForm[] parseOperands(String text) {
        List<OperandForm> forms = new ArrayList<>();
        if (!text.isEmpty()) {
            for (String operand : text.split(",")) {
                forms.add(OperandForm.parse(operand));
            }
        }
        return forms.toArray(OperandForm[]::new);
    }

    private static Set<String> attributes(String text) {
        return text.isEmpty() ? new HashSet<>() : new HashSet<>(List.of(text.split(" +")));
    }

    /// Whether this row constrains `selector` at all.
    boolean constrains(DecodeNode.Selector selector) {
        return switch (selector) {
            case MODE -> longMode != ANY;
            case PREFIX -> prefix != ANY;
            case MODRM -> digit != ANY || modRmFirst != ANY || memoryOnly || registerOnly;
            case OPERAND_SIZE -> operandSize != ANY;
            case REX_B -> rexBClear;
        };
    }

    /// Whether this row admits `value` of `selector`.
    boolean admits(DecodeNode.Selector selector, int value) {
        return switch (selector) {
            case MODE -> longMode == ANY || longMode == value;
            case PREFIX -> prefix == ANY || prefix == value || (prefix == PREFIX_NFX && value <= PREFIX_66);
            case MODRM -> admitsModRm(value);
            case OPERAND_SIZE -> operandSize == ANY || operandSize == value;
            case REX_B -> !rexBClear || value == 0;
        };
    }

    private boolean admitsModRm(int value) {
        boolean register = value >= 0xC0;
        return (digit == ANY || digit == ((value >> 3) & 7)) && (modRmFirst == ANY || (value >= modRmFirst && value <= modRmLast))
            && !(memoryOnly && register) && !(registerOnly && !register);
    }

    /// Of the rows that admit an encoding the most specific one is meant.
    int specificity() {
        return (modRmFirst != ANY ? 8 : 0) + (digit != ANY ? 4 : 0) + (operandSize != ANY ? 1 : 0) + (rexBClear ? 1 : 0)
            + (prefix != ANY ? 2 : 0);
    }
}
