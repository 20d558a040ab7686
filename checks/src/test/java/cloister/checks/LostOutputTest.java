package cloister.checks;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assumptions.assumeThat;

import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/// A run whose trace, statistics, dump or profile could not be written says so and ends with 74, however the guest ended.
class LostOutputTest {
    private static final Path FULL = Path.of("/dev/full");

    @ParameterizedTest
    @ValueSource(strings = {"run --trace seamcall --trace-out", "run --stats-out", "run --stats-format json --stats-out",
            "run --dump-on-exit", "run --dump-at 0 --dump-file"})
    void whatWasAskedForAndCannotBeWritten(String words) {
        lost(words, "--timeout", "3");
    }

    @Test void aProfileOfARunThatWorked() { // in three seconds a busy machine has no sample yet
        lost("profile --folded", "--exec", "true");
    }

    private static void lost(String words, String... more) {
        assumeThat(Files.exists(FULL)).isTrue();
        List<String> command = new ArrayList<>(List.of(words.split(" ")));
        command.add(FULL.toString());
        command.addAll(List.of(more));
        var ended = Launcher.cloister(command.toArray(String[]::new));
        assertThat(ended.err()).containsPattern("cloister: cannot write (the trace to )?/dev/full \\(No space left on device\\)");
        assertThat(ended.exitCode()).as(ended.err()).isEqualTo(74);
    }
}
