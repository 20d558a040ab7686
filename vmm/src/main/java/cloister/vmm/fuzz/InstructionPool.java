package cloister.vmm.fuzz;

import cloister.isa.CodeMode;
import cloister.isa.Decoder;
import cloister.isa.Instruction;
import cloister.isa.Op;
import cloister.isa.OperandKind;
import java.util.ArrayList;
import java.util.EnumMap;
import java.util.List;
import java.util.Map;
import java.util.SplittableRandom;

/// Encodings of every operation that the decoder knows, so that each is as likely as the others.
final class InstructionPool {
    private static final int[][] PREFIXES = {{}, {0x66}, {0xF3}, {0xF2}, {0x48}, {0x66, 0x48}, {0xF3, 0x48}};
    private static final int[][] MAPS = {{}, {0x0F}, {0x0F, 0x38}, {0x0F, 0x3A}};
    private static final int OPERAND_BYTES = 12;

    /// @param start  up to and with ModRM
    /// @param memory whether an operand is in memory at [RBX], [EBX] or [BP+DI]
    private record Encoding(byte[] start, boolean memory) {
    }

    private final List<List<Encoding>> byOperation;

    InstructionPool(CodeMode mode) {
        Map<Op, List<Encoding>> found = new EnumMap<>(Op.class);
        var decoder = new Decoder();
        for (int[] prefix : PREFIXES) {
            if (mode == CodeMode.BITS64 || prefix.length == 0 || prefix[prefix.length - 1] != 0x48) {
                for (int[] map : MAPS) {
                    for (int opcode = 0; opcode < 256; opcode++) {
                        add(found, decoder, mode, prefix, map, opcode);
                    }
                }
            }
        }
        byOperation = List.copyOf(found.values());
    }

    private static void add(Map<Op, List<Encoding>> found, Decoder decoder, CodeMode mode, int[] prefix, int[] map, int opcode) {
        for (int modRm = 3; modRm < 256; modRm += modRm < 0x3B ? 8 : modRm == 0x3B ? 0xC0 - 0x3B : 5) {
            byte[] code = new byte[32];
            int n = 0;
            for (int b : prefix) {
                code[n++] = (byte) b;
            }
            for (int b : map) {
                code[n++] = (byte) b;
            }
            code[n++] = (byte) opcode;
            code[n++] = (byte) modRm;
            Instruction i = decoder.decode(mode, code, 0, Decoder.MAX_LENGTH);
            if (i.op != Op.UNKNOWN && i.op != Op.TOO_LONG) {
                boolean memory = i.kind0 == OperandKind.MEM || i.kind1 == OperandKind.MEM || i.kind2 == OperandKind.MEM;
                found.computeIfAbsent(i.op, op -> new ArrayList<>()).add(new Encoding(java.util.Arrays.copyOf(code, n), memory));
            }
        }
    }

    /// A random instruction; its operands beyond ModRM are random bytes.
    byte[] next(SplittableRandom random) {
        var encodings = byOperation.get(random.nextInt(byOperation.size()));
        return finish(encodings.get(random.nextInt(encodings.size())), random);
    }

    /// A random instruction with an operand at [RBX].
    byte[] nextWithMemory(SplittableRandom random) {
        while (true) {
            var encodings = byOperation.get(random.nextInt(byOperation.size()));
            var encoding = encodings.get(random.nextInt(encodings.size()));
            if (encoding.memory) {
                return finish(encoding, random);
            }
        }
    }

    private static byte[] finish(Encoding encoding, SplittableRandom random) {
        byte[] code = java.util.Arrays.copyOf(encoding.start, encoding.start.length + OPERAND_BYTES);
        boolean quiet = random.nextInt(3) == 0;
        for (int k = encoding.start.length; k < code.length; k++) {
            code[k] = (byte) (quiet ? 0 : random.nextInt(256));
        }
        return code;
    }
}
