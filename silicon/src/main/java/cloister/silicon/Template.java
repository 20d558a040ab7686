package cloister.silicon;

import cloister.isa.CodeMode;
import cloister.isa.Decoder;
import cloister.isa.Instruction;
import cloister.isa.Op;
import cloister.isa.OperandKind;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;

/// The fixed part of one instruction form: prefixes, opcode, and whether the operand in ModRM is in memory.
///
/// @param modRm the ModRM byte, of which operand fields may vary as long as the form stays the same; -1: the form has none
record Template(CodeMode mode, byte[] start, int modRm, String form) {
    private static final int[][] PREFIXES64 = {{}, {0x66}, {0xF3}, {0xF2}, {0x48}, {0x66, 0x48}, {0xF3, 0x48}, {0xF2, 0x48}, {0x66, 0xF2},
        {0x66, 0xF3}, {0xF0}, {0xF0, 0x66}, {0xF0, 0x48}};
    private static final int[][] PREFIXES_LEGACY = {{}, {0x66}, {0xF3}, {0xF2}, {0x66, 0xF2}, {0x66, 0xF3}, {0xF0}, {0xF0, 0x66}};
    private static final int[][] MAPS = {{}, {0x0F}, {0x0F, 0x38}, {0x0F, 0x3A}};

    /// Every form that user programs may execute and two processors agree about.
    static List<Template> all(CodeMode mode) {
        Map<String, Template> found = new LinkedHashMap<>();
        Decoder decoder = new Decoder();
        for (int[] prefix : mode == CodeMode.BITS64 ? PREFIXES64 : PREFIXES_LEGACY) {
            for (int[] map : MAPS) {
                for (int opcode = 0; opcode < 256; opcode++) {
                    if (!leadsOn(mode, map, opcode)) {
                        addOpcode(found, decoder, mode, bytes(prefix, map, opcode));
                    }
                }
            }
        }
        for (int map = 2; map <= 3; map++) {
            for (int payload = 0; payload < 256; payload++) {
                for (int opcode = 0xF0; opcode < 0xF8; opcode++) {
                    addOpcode(found, decoder, mode, new byte[] {(byte) 0xC4, (byte) (0xE0 | map), (byte) payload, (byte) opcode});
                }
            }
        }
        return new ArrayList<>(found.values());
    }

    /// Whether the opcode follows yet, because this byte is a prefix or escapes to another map.
    private static boolean leadsOn(CodeMode mode, int[] map, int b) {
        if (map.length > 0) {
            return map.length == 1 && (b == 0x38 || b == 0x3A);
        }
        return switch (b) {
            case 0x0F, 0x26, 0x2E, 0x36, 0x3E, 0x64, 0x65, 0x66, 0x67, 0xC4, 0xC5, 0xF0, 0xF2, 0xF3 -> true;
            default -> mode == CodeMode.BITS64 && (b & 0xF0) == 0x40;
        };
    }

    private static byte[] bytes(int[] prefix, int[] map, int opcode) {
        byte[] start = new byte[prefix.length + map.length + 1];
        int n = 0;
        for (int b : prefix) {
            start[n++] = (byte) b;
        }
        for (int b : map) {
            start[n++] = (byte) b;
        }
        start[n] = (byte) opcode;
        return start;
    }

    private static void addOpcode(Map<String, Template> found, Decoder decoder, CodeMode mode, byte[] start) {
        for (int modRm = 0; modRm < 256; modRm += modRm < 0xC0 ? 8 : 1) {
            if (modRm >= 0x40 && modRm < 0xC0) {
                continue;
            }
            byte[] code = Arrays.copyOf(start, start.length + 16);
            code[start.length] = (byte) modRm;
            Instruction i = decoder.decode(mode, code, 0, 15);
            if (Eligibility.testable(mode, i)) {
                String form = form(i);
                int last = start[start.length - 1] & 0xFF;
                found.putIfAbsent(mode + form + last, new Template(mode, start, varies(start, i, modRm) ? modRm : -1, form));
            }
        }
    }

    /// Whether the form is of the integer core, whose flags conditions read.
    boolean setsFlags() {
        return switch (Op.valueOf(form.substring(0, form.indexOf(' ')))) {
            case ADD, ADC, SUB, SBB, CMP, AND, OR, XOR, TEST, INC, DEC, NEG, CMPXCHG, XADD, MOV, LEA, SETCC, CMOVCC, CLC, STC, CMC -> true;
            default -> false;
        };
    }

    /// Whether the byte after the opcode may be varied like a ModRM byte; in MOV of an offset it is part of the address.
    private static boolean varies(byte[] start, Instruction i, int modRm) {
        int opcode = start[start.length - 1] & 0xFF;
        boolean offset = i.op == Op.MOV && opcode >= 0xA0 && opcode <= 0xA3;
        return !offset && i.length > start.length && (i.kind0 != OperandKind.NONE || (i.bytes[i.length - 1] & 0xFF) == modRm);
    }

    /// What makes two encodings the same form: operation, operand kinds and sizes, prefixes that matter.
    static String form(Instruction i) {
        boolean string = switch (i.op) {
            case MOVS, CMPS, STOS, LODS, SCAS -> true;
            default -> false;
        };
        int prefixes = i.prefixes & (Instruction.PREFIX_LOCK | (string ? Instruction.PREFIX_REP | Instruction.PREFIX_REPNE : 0));
        int wide = switch (i.op) {
            case PCMPESTRI, PCMPESTRM, FXSAVE, FXRSTOR, XSAVE, XSAVEC, XRSTOR -> i.prefixes & Instruction.PREFIX_REX_W;
            default -> 0;
        };
        return String.format(Locale.ROOT, "%s %s%d %s%d %s%d %d %d %d %d", i.op, i.kind0, i.size0, i.kind1, i.size1, i.kind2, i.size2,
            i.operandSize, i.cc, prefixes, wide);
    }
}
