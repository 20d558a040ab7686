package cloister.silicon;

import cloister.isa.CodeMode;
import java.util.Arrays;
import java.util.function.Consumer;

/// Every opcode that one, two and three bytes can name, with every mandatory prefix and with LOCK, in 64-bit and 32-bit code, every
/// ModRM.reg with a memory operand and every ModRM byte of the register form. The order is part of the recorded vectors: a change
/// means recording anew.
final class OpcodeSweep {
    private static final int[][] PREFIXES = {{}, {0x66}, {0xF3}, {0xF2}, {0xF0}, {0x66, 0xF3}, {0x66, 0xF2}, {0x66, 0xF0},
        {0xF3, 0xF0}, {0xF2, 0xF0}};
    private static final int[] REX_W = {0x48};
    private static final int[] REX_RB = {0x45};
    /// How many of [#PREFIXES] are tried with [#REX_RB] and in front of VEX.
    private static final int MANDATORY = 4;
    /// ModRM: mod 0, the register of the data window's middle (RBX or R11).
    private static final int DATA_RM = 3;

    private OpcodeSweep() {
    }

    /// The state that every case starts from: pointers into the data window in RBX, RSP, RBP, RSI, RDI and R11, small numbers
    /// elsewhere (as selectors they are null), memory zero, x87 and SSE masked.
    static MachineState initial(CodeMode mode, long rip) {
        MachineState state = new MachineState();
        state.gpr[0] = 1;
        state.gpr[3] = Layout.DATA + 0x100;
        state.gpr[4] = Layout.DATA + 0x200; // RET_FAR and its like stay in the window
        state.gpr[5] = Layout.DATA + 0x340;
        state.gpr[6] = Layout.DATA + 0x80;
        state.gpr[7] = Layout.DATA + 0xC0;
        if (mode == CodeMode.BITS64) {
            state.gpr[11] = Layout.DATA + 0x100;
        }
        state.rip = rip;
        state.rflags = 0x202;
        for (int segment = 0; segment < 4; segment++) {
            state.segments[segment] = segment == 1 ? Layout.codeSelector(mode) : Layout.dataSelector(mode);
        }
        state.fx.putShort(MachineState.FX_FCW, (short) 0x37F);
        state.fx.putInt(MachineState.FX_MXCSR, 0x1F80);
        return state;
    }

    static void forEach(Consumer<Opcode> sink) {
        for (CodeMode mode : new CodeMode[] {CodeMode.BITS64, CodeMode.BITS32}) {
            for (int p = 0; p < PREFIXES.length; p++) {
                legacy(mode, bytes(PREFIXES[p]), sink);
                if (mode == CodeMode.BITS64) {
                    legacy(mode, bytes(PREFIXES[p], REX_W), sink);
                    if (p < MANDATORY) {
                        legacy(mode, bytes(PREFIXES[p], REX_RB), sink);
                    }
                }
            }
            vex(mode, sink);
            long64Evex(mode, sink);
            lengths(mode, sink);
        }
    }

    private static void legacy(CodeMode mode, byte[] prefixes, Consumer<Opcode> sink) {
        for (int map = 0; map < 4; map++) {
            for (int opcode = 0; opcode < 256; opcode++) {
                if (!leadsOn(mode, map, opcode)) {
                    for (int reg = 0; reg < 8; reg++) {
                        sink.accept(Opcode.legacy(mode, prefixes, map, opcode, (reg << 3) | DATA_RM));
                    }
                    for (int modRm = 0xC0; modRm < 0x100; modRm++) {
                        sink.accept(Opcode.legacy(mode, prefixes, map, opcode, modRm));
                    }
                }
            }
        }
    }

    /// Whether the byte is a prefix or escapes to another map.
    private static boolean leadsOn(CodeMode mode, int map, int b) {
        return switch (map) {
            case 0 -> switch (b) {
                case 0x0F, 0x26, 0x2E, 0x36, 0x3E, 0x64, 0x65, 0x66, 0x67, 0xF0, 0xF2, 0xF3 -> true;
                case 0x62, 0xC4, 0xC5 -> mode == CodeMode.BITS64;
                default -> mode == CodeMode.BITS64 && (b & 0xF0) == 0x40;
            };
            case 1 -> b == 0x38 || b == 0x3A;
            default -> false;
        };
    }

    /// The three-byte VEX prefix with each map, W, L and mandatory prefix, without and with a second source register, and behind the
    /// legacy prefixes that it does not tolerate; and the two-byte one.
    private static void vex(CodeMode mode, Consumer<Opcode> sink) {
        for (int map = 1; map < 4; map++) {
            for (int payload = 0; payload < 32; payload++) {
                int fields = (payload & 7) | ((payload & 8) != 0 ? 0x80 : 0) | ((payload & 16) != 0 ? 0x78 : 0x68);
                vexOpcodes(mode, bytes(new int[] {0xC4, 0xE0 | map, fields}), map, sink);
            }
        }
        for (int payload = 0; payload < 8; payload++) {
            vexOpcodes(mode, bytes(new int[] {0xC5, 0xF8 | payload}), 1, sink);
        }
        for (int prefix : new int[] {0x66, 0xF3, 0xF2, 0xF0}) {
            vexOpcodes(mode, bytes(new int[] {prefix, 0xC4, 0xE2, 0x78}), 2, sink);
        }
    }

    private static void vexOpcodes(CodeMode mode, byte[] prefixes, int map, Consumer<Opcode> sink) {
        for (int opcode = 0; opcode < 256; opcode++) {
            for (int reg = 0; reg < 8; reg++) {
                sink.accept(Opcode.extended(mode, prefixes, Opcode.Coding.VEX, map, opcode, (reg << 3) | DATA_RM));
                sink.accept(Opcode.extended(mode, prefixes, Opcode.Coding.VEX, map, opcode, 0xC0 | (reg << 3)));
            }
        }
    }

    private static void long64Evex(CodeMode mode, Consumer<Opcode> sink) {
        if (mode != CodeMode.BITS64) {
            return;
        }
        for (int map = 1; map < 4; map++) {
            for (int p = 0; p < 4; p++) {
                byte[] prefixes = bytes(new int[] {0x62, 0xF0 | map, 0x7C | p, 0x08});
                for (int opcode = 0; opcode < 256; opcode++) {
                    sink.accept(Opcode.extended(mode, prefixes, Opcode.Coding.EVEX, map, opcode, DATA_RM));
                    sink.accept(Opcode.extended(mode, prefixes, Opcode.Coding.EVEX, map, opcode, 0xC1));
                }
            }
        }
    }

    /// Instructions made long by redundant prefixes, up to and beyond the limit of 15 bytes.
    private static void lengths(CodeMode mode, Consumer<Opcode> sink) {
        for (int prefix : new int[] {0x66, 0x3E, 0xF2, 0xF0}) {
            for (int count = 11; count < 16; count++) {
                int[] prefixes = new int[count];
                Arrays.fill(prefixes, prefix);
                for (int opcode : new int[] {0x01, 0x50, 0x90, 0x05, 0xF4}) {
                    sink.accept(Opcode.legacy(mode, bytes(prefixes), 0, opcode, DATA_RM));
                    sink.accept(Opcode.legacy(mode, bytes(prefixes), 0, opcode, 0xC1));
                }
            }
        }
    }

    private static byte[] bytes(int[]... parts) {
        int count = 0;
        byte[] bytes = new byte[32];
        for (int[] part : parts) {
            for (int b : part) {
                bytes[count++] = (byte) b;
            }
        }
        return Arrays.copyOf(bytes, count);
    }
}
