package cloister.cpu.fpu;

import static org.assertj.core.api.Assertions.assertThat;

import cloister.cpu.core.Cpu;
import cloister.cpu.core.GuestFault;
import cloister.isa.CodeMode;
import cloister.isa.Decoder;
import cloister.isa.Instruction;
import cloister.memory.PhysicalMemory;
import cloister.sim.Entropy;
import cloister.sim.VirtualClock;
import cloister.spec.x86.ExceptionVector;
import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.HexFormat;
import java.util.List;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/// Instructions against what an x86-64 processor did with them. A line of a table is
/// `category|code bytes|assembler|seed|word:value ...`: the words of [SiliconState] that the instruction changed.
class SiliconVectorsTest {
    private static PhysicalMemory memory;
    private static Cpu cpu;
    private final Decoder decoder = new Decoder();

    @BeforeAll
    static void machine() {
        memory = new PhysicalMemory(1 << 20, 64);
        cpu = longModeCpu(memory);
    }

    @AfterAll
    static void close() {
        memory.close();
    }

    /// 64-bit mode at CPL 0, [SiliconState#MEMORY] mapped to physical address 0, SSE and XSAVE enabled.
    static Cpu longModeCpu(PhysicalMemory memory) {
        var cpu = new Cpu(memory, new VirtualClock(1_000_000_000L), new Entropy(1), (c, linear, access, right, out) -> {
            if (linear < SiliconState.MEMORY || linear >= SiliconState.MEMORY + 0x4000) {
                throw c.pageFault(linear, 0);
            }
            out.hpa = linear - SiliconState.MEMORY;
            out.pageShift = 12;
            out.writable = true;
            out.global = false;
            out.direct = true;
            out.hook = null;
        });
        cpu.cr0 = 0x8000_0033L;
        cpu.cr4 = 0x4_0620;
        cpu.efer = 0x500;
        cpu.xcr0 = 0x203;
        for (int n = 0; n < 8; n++) {
            cpu.segAr[n] = n == Cpu.CS ? 0xa09b : 0xc093;
            cpu.segLimit[n] = -1;
        }
        cpu.updateMode();
        return cpu;
    }

    @ParameterizedTest
    @ValueSource(strings = {"integer", "float", "strings", "x87"})
    void agreesWithSilicon(String table) throws IOException {
        List<String> differences = new ArrayList<>();
        int lines = 0;
        try (var in = new BufferedReader(new InputStreamReader(
                SiliconVectorsTest.class.getResourceAsStream("silicon-" + table + ".txt"), StandardCharsets.US_ASCII))) {
            for (String line = in.readLine(); line != null; line = in.readLine()) {
                String[] fields = line.split("\\|", -1);
                String ours = run(fields[1], SiliconState.of(fields[0], Long.parseLong(fields[3])));
                if (!ours.equals(fields[4])) {
                    differences.add(line + "  but ours: " + ours);
                }
                lines++;
            }
        }
        assertThat(lines).isGreaterThan(100);
        assertThat(differences).isEmpty();
    }

    private String run(String code, long[] before) {
        load(before);
        byte[] bytes = HexFormat.of().parseHex(code);
        Instruction insn = decoder.decode(CodeMode.BITS64, bytes, 0, bytes.length);
        int signal = 0;
        try {
            FpuInstructions.execute(cpu, insn);
        } catch (GuestFault fault) {
            signal = switch (fault.vector) {
                case ExceptionVector.XM, ExceptionVector.MF -> 8;
                case ExceptionVector.GP -> 11;
                default -> -fault.vector;
            };
        }
        return SiliconState.delta(before, store(signal));
    }

    private static void load(long[] words) {
        System.arraycopy(words, 0, cpu.fpu.image, 0, LegacyImage.WORDS);
        LegacyImage.loadX87(cpu.fpu, cpu.fpu.image, true);
        LegacyImage.loadMxcsr(cpu.fpu, cpu.fpu.image);
        LegacyImage.loadXmm(cpu.fpu, cpu.fpu.image, 16);
        cpu.r[Cpu.RAX] = words[SiliconState.GPR];
        cpu.r[Cpu.RCX] = words[SiliconState.GPR + 1];
        cpu.r[Cpu.RDX] = words[SiliconState.GPR + 2];
        cpu.r[Cpu.RDI] = words[SiliconState.GPR + 3];
        cpu.r[Cpu.RBX] = SiliconState.MEMORY;
        cpu.rflags(words[SiliconState.FLAGS]);
        for (int n = 0; n < 16; n++) {
            cpu.write64(SiliconState.MEMORY + 8 * n, words[SiliconState.MEMORY_WORD + n]);
        }
    }

    private static long[] store(int signal) {
        long[] words = new long[SiliconState.WORDS];
        LegacyImage.saveX87(cpu.fpu, words, true);
        LegacyImage.saveMxcsr(cpu.fpu, words);
        LegacyImage.saveXmm(cpu.fpu, words, 16);
        words[SiliconState.GPR] = cpu.r[Cpu.RAX];
        words[SiliconState.GPR + 1] = cpu.r[Cpu.RCX];
        words[SiliconState.GPR + 2] = cpu.r[Cpu.RDX];
        words[SiliconState.GPR + 3] = cpu.r[Cpu.RDI];
        words[SiliconState.FLAGS] = cpu.rflags();
        words[SiliconState.SIGNAL] = signal;
        for (int n = 0; n < 16; n++) {
            words[SiliconState.MEMORY_WORD + n] = cpu.read64(SiliconState.MEMORY + 8 * n);
        }
        return words;
    }
}
