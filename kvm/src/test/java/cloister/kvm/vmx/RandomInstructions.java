package cloister.kvm.vmx;

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
import java.util.function.Predicate;

/// Random instructions of one decode mode: every operation as likely as any other, whatever its encodings. Those with a memory operand
/// are three of four, where an operation has such.
final class RandomInstructions {
    private static final int CANDIDATES = 150_000;
    private static final int[] PREFIXES = {0x66, 0x67, 0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65, 0xf0, 0xf2, 0xf3, 0x66, 0xf3, 0xf0};

    private final List<Map<Op, List<byte[]>>> pools = List.of(new EnumMap<>(Op.class), new EnumMap<>(Op.class));
    private final List<Op> ops = new ArrayList<>();

    RandomInstructions(CodeMode mode, SplittableRandom random, Predicate<Instruction> wanted) {
        var decoder = new Decoder();
        byte[] bytes = new byte[Decoder.MAX_LENGTH + 8];
        for (int i = 0; i < CANDIDATES; i++) {
            fill(bytes, mode, random);
            var insn = decoder.decode(mode, bytes, 0, Decoder.MAX_LENGTH);
            if (insn.op == Op.UNKNOWN || insn.op == Op.TOO_LONG || insn.op == Op.TRUNCATED || !wanted.test(insn)) {
                continue;
            }
            boolean memory = insn.kind0 == OperandKind.MEM || insn.kind1 == OperandKind.MEM;
            pools.get(memory ? 1 : 0).computeIfAbsent(insn.op, _ -> new ArrayList<>()).add(insn.bytes.clone());
        }
        for (Op op : Op.values()) {
            if (pools.stream().anyMatch(pool -> pool.containsKey(op))) {
                ops.add(op);
            }
        }
    }

    private static void fill(byte[] bytes, CodeMode mode, SplittableRandom random) {
        random.nextBytes(bytes);
        int at = 0;
        while (at < 3 && random.nextInt(3) == 0) {
            bytes[at++] = (byte) PREFIXES[random.nextInt(PREFIXES.length)];
        }
        if (mode == CodeMode.BITS64 && random.nextInt(2) == 0) {
            bytes[at++] = (byte) (0x40 | random.nextInt(16));
        }
        int map = random.nextInt(5);
        if (map >= 3) {
            bytes[at++] = 0x0f;
            if (random.nextInt(8) == 0) {
                bytes[at++] = 0x38;
                bytes[at] = (byte) (random.nextBoolean() ? 0xf0 | random.nextInt(2) : 0x2a);
            }
        }
        if (random.nextInt(4) != 0) { // displacements that stay near
            byte filler = (byte) (random.nextBoolean() ? 0 : -1);
            for (int i = at + 2 + random.nextInt(3); i < bytes.length; i++) {
                bytes[i] = filler;
            }
        }
    }

    /// How many operations there are.
    int operations() {
        return ops.size();
    }

    byte[] next(SplittableRandom random) {
        var op = ops.get(random.nextInt(ops.size()));
        var preferred = pools.get(random.nextInt(4) == 0 ? 0 : 1).get(op);
        var pool = preferred != null ? preferred : pools.get(0).containsKey(op) ? pools.get(0).get(op) : pools.get(1).get(op);
        return pool.get(random.nextInt(pool.size()));
    }
}
