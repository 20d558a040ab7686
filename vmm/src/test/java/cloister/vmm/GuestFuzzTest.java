package cloister.vmm;

import static org.assertj.core.api.Assertions.assertThat;

import cloister.vmm.fuzz.GuestProgram;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;
import org.junit.jupiter.params.provider.ValueSource;

/// Nothing that a guest does breaks the platform or ends in an internal error. Programs that once did are kept as files.
class GuestFuzzTest {
    private static final long PROGRAMS = 10_000;
    private static final Path REGRESSIONS = Path.of("src/test/resources/cloister/vmm/programs");

    @ParameterizedTest
    @ValueSource(strings = {"TDX", "DEFAULT"})
    void randomProgramsBreakNothing(VmType type) {
        var fuzz = new GuestFuzz(20);
        var finding = fuzz.run(PROGRAMS, type, done -> { });
        assertThat(finding).isNull();
        assertThat(fuzz.outcomes().values().stream().mapToLong(Long::longValue).sum()).isEqualTo(PROGRAMS);
        assertThat(fuzz.outcomes()).containsKeys("PowerOff", "TripleFault", "TimedOut");
    }

    static List<Path> regressions() throws IOException {
        try (var files = Files.list(REGRESSIONS)) {
            return files.sorted().toList();
        }
    }

    @ParameterizedTest
    @MethodSource("regressions")
    void whatOnceBroke(Path file) throws IOException {
        assertThat(GuestFuzz.replay(Files.readAllLines(file))).isNull();
    }

    /// A program survives being written down.
    @Test
    void programsAreLines() {
        var lines = new ArrayList<>(List.of("# a comment", "start LONG", "port b0 ", "", "wait f4"));
        var program = GuestProgram.parse(lines);
        assertThat(program.lines()).containsExactly("start LONG", "port b0", "wait f4");
        assertThat(program.without(0).lines()).containsExactly("start LONG", "wait f4");
    }
}
