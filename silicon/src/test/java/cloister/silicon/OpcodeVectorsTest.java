package cloister.silicon;

import static org.assertj.core.api.Assertions.assertThat;

import cloister.isa.CodeMode;
import java.io.IOException;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.stream.IntStream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.condition.EnabledOnOs;
import org.junit.jupiter.api.condition.OS;

/// Every opcode of one, two and three bytes at CPL 3: fault or not, and which, and how long the instruction is, as silicon did it.
/// Recorded with `SiliconTester --opcodes FILE` on an AMD EPYC of the Zen 4 family.
class OpcodeVectorsTest {
    private static OpcodeVectors.Reader vectors() throws IOException {
        return new OpcodeVectors.Reader(OpcodeVectorsTest.class.getResourceAsStream("opcodes.xz"));
    }

    private static OpcodeTester compare(Model.Engine engine, int stride) throws IOException {
        OpcodeTester tester = new OpcodeTester();
        List<String> different = new ArrayList<>();
        try (OpcodeVectors.Reader reader = vectors()) {
            Map<String, Integer> counts = tester.compare(reader, engine, stride, different::add);
            assertThat(different).isEmpty();
            assertThat(counts).isEmpty();
            assertThat(reader.atEnd()).isTrue();
        }
        return tester;
    }

    @Test
    void everyOpcodeDoesWhatSiliconDid() throws IOException {
        OpcodeTester tester = compare(Model.Engine.STEP, 1);
        assertThat(tester.count()).isGreaterThan(3_000_000);
        assertThat(tester.unusedRules()).as("rules without a case").isEmpty();
    }

    /// A fifth of them through the code cache; 5 has no common divisor with the number of ModRM bytes of an opcode.
    @Test
    void codeCacheFaultsAlike() throws IOException {
        compare(Model.Engine.RUN, 5);
    }

    /// The vectors say what silicon did: faults of several kinds, and completed instructions.
    @Test
    void vectorsHoldFaultsAndCompletions() throws IOException {
        long[] counts = new long[20];
        try (OpcodeVectors.Reader reader = vectors()) {
            OpcodeSweep.forEach(o -> {
                try {
                    int vector = reader.next().vector();
                    counts[vector + 2]++;
                    if ((vector == Outcome.LOST) != (OpcodeRules.entersSystem(o) || OpcodeRules.entersHypervisor(o))) {
                        throw new AssertionError("an answer, or none, against expectation: " + o);
                    }
                } catch (IOException e) {
                    throw new AssertionError(e);
                }
            });
        }
        assertThat(counts[Outcome.COMPLETED + 2]).isGreaterThan(500_000);
        assertThat(IntStream.of(0, 6, 13, 14)).allMatch(vector -> counts[vector + 2] > 0);
    }

    /// Where the oracle is at hand: opcodes that every x86-64 processor has.
    @Test
    @EnabledOnOs(value = OS.LINUX, architectures = "amd64")
    void siliconAnswersToday() throws IOException {
        List<Case> cases = new ArrayList<>();
        for (int[] code : new int[][] {{0x90}, {0xF4}, {0x0F, 0x0B}, {0xF0, 0x89, 0x03}, {0xF7, 0xF2}}) {
            byte[] bytes = new byte[Layout.CODE_BYTES];
            for (int n = 0; n < code.length; n++) {
                bytes[n] = (byte) code[n];
            }
            cases.add(new Case(CodeMode.BITS64, bytes, 0, 0, List.of()));
        }
        List<Outcome> outcomes = new Silicon().runOnce(cases, c -> OpcodeSweep.initial(c.mode(), c.start()));
        assertThat(outcomes.stream().map(Outcome::vector)).containsExactly(Outcome.COMPLETED, 13, 6, 6, 0);
    }
}
