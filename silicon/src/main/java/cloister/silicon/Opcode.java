package cloister.silicon;

import cloister.isa.CodeMode;
import java.util.HexFormat;

/// One encoding of the opcode sweep: prefixes, an opcode of a map, the byte after it (a ModRM byte where the opcode has one), then
/// zeros for displacement and immediates.
///
/// @param prefixes legacy prefixes, then REX or the bytes of VEX
/// @param coding   how the map was chosen
/// @param map      0 one byte, 1 0F, 2 0F 38, 3 0F 3A
/// @param bytes    the code, padded with zeros to [Layout#CODE_BYTES]
record Opcode(CodeMode mode, byte[] prefixes, Coding coding, int map, int opcode, int modRm, byte[] bytes) {
    /// Whether the opcode map is named by escape bytes, or by a VEX or EVEX prefix.
    enum Coding {
        LEGACY, VEX, EVEX
    }

    private static final byte[][] ESCAPES = {{}, {0x0F}, {0x0F, 0x38}, {0x0F, 0x3A}};

    static Opcode legacy(CodeMode mode, byte[] prefixes, int map, int opcode, int modRm) {
        return new Opcode(mode, prefixes, Coding.LEGACY, map, opcode, modRm, code(prefixes, ESCAPES[map], opcode, modRm));
    }

    /// An opcode behind the VEX or EVEX prefix at the end of `prefixes`.
    static Opcode extended(CodeMode mode, byte[] prefixes, Coding coding, int map, int opcode, int modRm) {
        return new Opcode(mode, prefixes, coding, map, opcode, modRm, code(prefixes, ESCAPES[0], opcode, modRm));
    }

    private static byte[] code(byte[] prefixes, byte[] escape, int opcode, int modRm) {
        byte[] code = new byte[Layout.CODE_BYTES];
        System.arraycopy(prefixes, 0, code, 0, prefixes.length);
        System.arraycopy(escape, 0, code, prefixes.length, escape.length);
        int at = prefixes.length + escape.length;
        code[at] = (byte) opcode;
        code[at + 1] = (byte) modRm;
        return code;
    }

    /// ModRM.reg, the number in a group.
    int reg() {
        return (modRm >> 3) & 7;
    }

    boolean register() {
        return modRm >= 0xC0;
    }

    /// Whether legacy prefix `prefix` is there.
    boolean has(int prefix) {
        for (byte b : prefixes) {
            if ((b & 0xFF) == prefix) {
                return true;
            }
        }
        return false;
    }

    /// Whether it is opcode `code` of legacy map `wanted`.
    boolean is(int wanted, int code) {
        return coding == Coding.LEGACY && map == wanted && opcode == code;
    }

    @Override public String toString() {
        return mode + " " + HexFormat.of().formatHex(bytes, 0, 15);
    }
}
