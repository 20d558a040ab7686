package cloister.isa;

import java.io.IOException;
import java.io.OutputStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.HashSet;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.zip.GZIPOutputStream;

/// Records how GNU objdump reads one encoding of every instruction form in every mode; [DecoderRecordedTest] replays it.
/// To record anew: run [#main] with the path of the resource, on a machine with binutils.
final class ObjdumpRecording {
    private static final int SLOT = 32;
    private static final int[][] PREFIXES = {{}, {0x66}, {0xF3}, {0xF2}, {0x48}, {0x66, 0x48}, {0xF3, 0x48}, {0xF2, 0x48}, {0x67}, {0xF0},
        {0x4D}, {0x64}, {0x43}, {0x40}};
    private static final int[][] OPCODE_MAPS = {{}, {0x0F}, {0x0F, 0x38}, {0x0F, 0x3A}};
    private static final int[][] TAILS = {{0xC1}, {0x00}, {0x44, 0x8D, 0x10}, {0x84, 0x98, 0x10, 0x20, 0x30, 0x40},
        {0x05}, {0x5D, 0xF0}, {0x24, 0x24}};

    private ObjdumpRecording() {
    }

    static List<byte[]> samples(CodeMode mode) {
        List<byte[]> samples = new ArrayList<>();
        Set<String> seen = new HashSet<>();
        Decoder decoder = new Decoder();
        for (int[] prefix : PREFIXES) {
            for (int[] map : OPCODE_MAPS) {
                for (int opcode = 0; opcode < 256; opcode++) {
                    for (int modRm = 0; modRm < 8; modRm++) {
                        for (int[] tail : TAILS) {
                            add(samples, seen, decoder, mode, concat(prefix, map, opcode, tail, modRm));
                        }
                    }
                }
            }
            for (int modRm = 0xC0; modRm < 0x100; modRm++) {
                add(samples, seen, decoder, mode, concat(prefix, new int[] {0x0F}, 0x01, new int[] {modRm}, 0));
                for (int opcode = 0xD8; opcode < 0xE0; opcode++) {
                    add(samples, seen, decoder, mode, concat(prefix, new int[0], opcode, new int[] {modRm}, 0));
                }
            }
        }
        for (int b1 : new int[] {0xE2, 0xE3, 0xC2, 0x62}) {
            for (int b2 = 0; b2 < 256; b2++) {
                for (int opcode = 0xF0; opcode < 0xF8; opcode++) {
                    for (int[] tail : TAILS) {
                        add(samples, seen, decoder, mode, concat(new int[] {0xC4, b1}, new int[] {b2}, opcode, tail, b2 & 3));
                    }
                }
            }
        }
        return samples;
    }

    private static byte[] concat(int[] prefix, int[] map, int opcode, int[] tail, int digit) {
        byte[] code = new byte[24];
        Arrays.fill(code, (byte) 0x12);
        int n = 0;
        for (int b : prefix) {
            code[n++] = (byte) b;
        }
        for (int b : map) {
            code[n++] = (byte) b;
        }
        code[n++] = (byte) opcode;
        for (int i = 0; i < tail.length; i++) {
            code[n++] = (byte) (i == 0 ? tail[i] ^ (digit << 3) : tail[i]);
        }
        return code;
    }

    private static void add(List<byte[]> samples, Set<String> seen, Decoder decoder, CodeMode mode, byte[] code) {
        Instruction i = decoder.decode(mode, code, 0, 15);
        if (i.op == Op.UNKNOWN) {
            return;
        }
        String form = i.op + " " + i.kind0 + i.kind1 + i.kind2 + i.size0 + i.size1 + i.operandSize + i.addressSize;
        String addressing = i.base + " " + i.index + i.prefixes + i.segment + (i.op.ordinal() & 7);
        if (seen.add(form) || seen.add(addressing)) {
            samples.add(i.bytes);
        }
    }

    static Map<Integer, String> objdump(CodeMode mode, List<byte[]> samples) throws IOException {
        byte[] image = new byte[samples.size() * SLOT];
        Arrays.fill(image, (byte) 0x90);
        for (int n = 0; n < samples.size(); n++) {
            System.arraycopy(samples.get(n), 0, image, n * SLOT, samples.get(n).length);
        }
        Path file = Files.createTempFile("samples", ".bin");
        Files.write(file, image);
        String machine = switch (mode) {
            case BITS16 -> "i8086";
            case BITS32 -> "i386";
            case BITS64 -> "i386:x86-64";
        };
        Process process = new ProcessBuilder("objdump", "-D", "-w", "-z", "-b", "binary", "-m", machine, "-M", "intel",
            file.toString()).start();
        Map<Integer, String> text = new HashMap<>();
        for (String line : new String(process.getInputStream().readAllBytes()).split("\n")) {
            String[] column = line.split("\t");
            if (column.length >= 2 && column[0].strip().matches("[0-9a-f]+:")) {
                int address = Integer.parseInt(column[0].strip().replace(":", ""), 16);
                if (address % SLOT == 0) {
                    String bytes = column[1].replace(" ", "");
                    String reading = column.length > 2 ? column[2] : "";
                    text.put(address / SLOT, bytes + "|" + reading.replaceAll(" *#.*", "").replaceAll(" +", " ").strip());
                }
            }
        }
        Files.delete(file);
        return text;
    }

    public static void main(String[] args) throws IOException {
        try (OutputStream out = new GZIPOutputStream(Files.newOutputStream(Path.of(args[0])))) {
            for (CodeMode mode : CodeMode.values()) {
                List<byte[]> samples = samples(mode);
                Map<Integer, String> text = objdump(mode, samples);
                for (int n = 0; n < samples.size(); n++) {
                    String reading = text.getOrDefault(n, "|(bad)");
                    // Objdump reads FWAIT as a prefix, and knows neither SEAMOPS and its like outside 64-bit mode nor
                    // the fences' other encodings.
                    if (!reading.endsWith("(bad)") && !reading.contains("|rex.") && !reading.endsWith("rex.W")
                        && !reading.contains("|repz rex.")) {
                        String hex = HexFormat.of().formatHex(samples.get(n));
                        out.write((mode + " " + hex + " " + reading + "\n").getBytes());
                    }
                }
            }
        }
    }
}
