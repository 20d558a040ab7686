package cloister.tdx.replay;

import cloister.memory.PhysicalMemory;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HexFormat;
import java.util.Set;

/// Steps that write memory and compare it. [VECTORS "Steps", "Guest side"]
final class MemorySteps {
    private static final Set<String> WRITE = Set.of("op", "pa", "hex", "fill", "pattern", "len");
    private static final Set<String> EXPECT = Set.of("op", "pa", "hex", "zero", "len");
    private static final Set<String> GUEST_WRITE = Set.of("op", "gpa", "hex", "fill", "pattern", "len");
    private static final Set<String> GUEST_EXPECT = Set.of("op", "gpa", "hex", "zero", "len");
    private static final int MAX_BYTES = 1 << 30;
    private static final long PATTERN_SCALE = 0x9E3779B97F4A7C15L;
    private static final long WORD_SCALE = 0xD1B54A32D192ED03L;
    private static final String ANY_BYTE = "**";
    private static final int CONTEXT = 8;

    private MemorySteps() {
    }

    static void hostWrite(VectorMachine machine, Step step) {
        step.allow(WRITE);
        write(machine, step.required("pa"), content(step));
    }

    static void guestWrite(VectorMachine machine, Step step) {
        step.allow(GUEST_WRITE);
        write(machine, pageOf(machine, step), content(step));
    }

    /// The recordings wrote to the start of the page, whatever the offset: the RTMRs tell that were extended with what should have
    /// been written.
    private static long pageOf(VectorMachine machine, Step step) {
        return machine.hpaOf(step.required("gpa") & -PhysicalMemory.FRAME_SIZE);
    }

    private static void write(VectorMachine machine, long hpa, byte[] data) {
        reach(machine, hpa, data.length);
        machine.memory.write(hpa, data, 0, data.length);
    }

    private static void reach(VectorMachine machine, long hpa, long length) {
        if (!machine.memory.contains(PhysicalMemory.pa(hpa), length)) {
            throw new Step.Malformed(VectorWords.hex(length) + " bytes at " + VectorWords.hex(hpa)
                    + " are not in the platform's memory of " + VectorWords.hex(machine.memory.size()) + " bytes");
        }
    }

    private static byte[] content(Step step) {
        int forms = (step.has("hex") ? 1 : 0) + (step.has("fill") ? 1 : 0) + (step.has("pattern") ? 1 : 0);
        if (forms != 1) {
            throw new Step.Malformed("there must be one of \"hex\", \"fill\" and \"pattern\"");
        }
        if (step.has("hex")) {
            return bytes(step.text("hex"));
        }
        var data = new byte[step.count("len", 0, MAX_BYTES)];
        if (step.has("fill")) {
            var fill = bytes(step.text("fill"));
            if (fill.length != 1) {
                throw new Step.Malformed("\"fill\" must be one byte in hexadecimal, and is \"" + step.text("fill") + "\"");
            }
            Arrays.fill(data, fill[0]);
        } else {
            long pattern = step.required("pattern");
            for (int i = 0; i < data.length; i++) {
                long word = pattern * PATTERN_SCALE + (i / 8) * WORD_SCALE;
                data[i] = (byte) (word >>> (8 * (i % 8)));
            }
        }
        return data;
    }

    private static byte[] bytes(String hex) {
        try {
            return HexFormat.of().parseHex(hex);
        } catch (IllegalArgumentException e) {
            throw new Step.Malformed("bytes must be in hexadecimal without blanks: " + e.getMessage());
        }
    }

    static void expectHost(VectorMachine machine, Step step) {
        step.allow(EXPECT);
        expect(machine, step, step.required("pa"), "pa");
    }

    static void expectGuest(VectorMachine machine, Step step) {
        step.allow(GUEST_EXPECT);
        expect(machine, step, pageOf(machine, step), "gpa");
    }

    private static void expect(VectorMachine machine, Step step, long hpa, String address) {
        var zero = step.flag("zero");
        if (zero == step.has("hex")) {
            throw new Step.Malformed("there must be either \"hex\" or \"zero\": true with \"len\"");
        }
        var hex = zero ? "00".repeat(step.count("len", 0, MAX_BYTES / 2)) : step.text("hex");
        if (hex.length() % 2 != 0) {
            throw new Step.Malformed("\"hex\" has half a byte");
        }
        if (step.has("len") && step.count("len", 0, MAX_BYTES) != hex.length() / 2) {
            throw new Step.Malformed("\"len\" is not the length of \"hex\"");
        }
        var data = new byte[hex.length() / 2];
        reach(machine, hpa, data.length);
        machine.memory.read(hpa, data, 0, data.length);
        compare(hex, data, step.required(address), address);
    }

    private static void compare(String hex, byte[] data, long address, String kind) {
        var different = new ArrayList<Integer>();
        for (int i = 0; i < data.length; i++) {
            var byteText = hex.substring(2 * i, 2 * i + 2);
            if (!byteText.equals(ANY_BYTE) && bytes(byteText)[0] != data[i]) {
                different.add(i);
            }
        }
        if (!different.isEmpty()) {
            int first = different.getFirst();
            int from = first & -CONTEXT;
            int to = Math.min(data.length, from + CONTEXT);
            throw new VectorMismatch("memory at " + kind + " " + VectorWords.hex(address + first),
                    hex.substring(2 * from, 2 * to), HexFormat.of().formatHex(data, from, to),
                    "bytes " + VectorWords.hex(from) + ".." + VectorWords.hex(to - 1) + " of the image; " + different.size() + " of "
                            + data.length + " bytes differ");
        }
    }
}
