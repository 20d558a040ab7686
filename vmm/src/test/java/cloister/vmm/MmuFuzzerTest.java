package cloister.vmm;

import static org.assertj.core.api.Assertions.assertThat;

import cloister.kvm.Defect;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Set;
import java.util.stream.Stream;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;
import org.junit.jupiter.params.provider.MethodSource;
import org.junit.jupiter.params.provider.ValueSource;

final class MmuFuzzerTest {
    private static final Path SEQUENCES = Path.of("src/test/resources/mmu-fuzz");

    private static String shown(MmuFuzz.Finding finding) {
        return finding == null ? "" : finding.message() + "\n" + String.join("\n", finding.sequence());
    }

    @ParameterizedTest @ValueSource(longs = {1, 2, 3, 4, 5, 6, 7, 8})
    void guestsSeeWhatTheModelSays(long seed) {
        assertThat(shown(new MmuFuzz(seed, Set.of()).run(2_000, done -> { }))).isEmpty();
    }

    @Tag("slow") @Test void aMillionOperationsShowNothing() {
        assertThat(shown(new MmuFuzz(20, Set.of()).run(1_000_000, done -> { }))).isEmpty();
    }

    @ParameterizedTest @EnumSource(names = {"INVALIDATION_WITHOUT_FLUSH", "ZAP_FORGETS_LARGE_PAGES", "LOG_WITHOUT_PROTECTION",
        "INVALID_SLOT_IS_USED", "FAULT_IGNORES_INVALIDATION",
        "TD_VIOLATION_WAITS_FOR_INVALID_SLOT", "PREFAULT_WAITS_FOR_INVALID_SLOT"})
    void aPlantedDefectIsFoundAndItsSequenceIsCleanWithoutIt(Defect defect) {
        var finding = new MmuFuzz(1, Set.of(defect)).run(60_000, done -> { });
        assertThat(finding).as("a finding").isNotNull();
        assertThat(MmuFuzz.replay(finding.sequence(), Set.of(defect))).as("replayed").isEqualTo(finding.message());
        assertThat(MmuFuzz.replay(finding.sequence(), Set.of())).as("without the defect").isNull();
    }

    static Stream<Path> sequences() throws IOException {
        try (var files = Files.list(SEQUENCES)) {
            return files.sorted().toList().stream();
        }
    }

    /// What broke something once, and was fixed.
    @ParameterizedTest @MethodSource("sequences")
    void oldFindingsStayFixed(Path file) throws IOException {
        List<String> lines = Files.readAllLines(file);
        assertThat(MmuFuzz.replay(lines, Set.of())).isNull();
    }
}
