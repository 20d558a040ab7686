package cloister.vmm;

import static org.assertj.core.api.Assertions.assertThat;

import cloister.kvm.Defect;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Set;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.MethodSource;
import org.junit.jupiter.params.provider.ValueSource;

final class MmuFuzzerTest {
    private static final Path SEQUENCES = Path.of("src/test/resources/mmu-fuzz");
    private static final Path OUTCOMES = Path.of("src/test/resources/mmu-fuzz-outcomes.txt");

    private static String shown(MmuFuzz.Finding finding) {
        return finding == null ? "" : finding.message() + "\n" + String.join("\n", finding.sequence());
    }

    @ParameterizedTest @ValueSource(longs = {1, 2, 3, 4, 5, 6, 7, 8})
    void guestsSeeWhatTheModelSays(long seed) {
        assertThat(shown(new MmuFuzz(seed, Set.of()).run(2_000, done -> { }))).isEmpty();
    }

    /// About 4 minutes of one processor. What CI must have seen by then is in a file, so that no operation is forgotten.
    @Test void aMillionOperationsShowNothing() throws IOException {
        var fuzz = new MmuFuzz(20, Set.of());
        assertThat(shown(fuzz.run(1_000_000, done -> { }))).isEmpty();
        assertThat(fuzz.seen()).containsAll(lines(OUTCOMES));
    }

    private static List<String> lines(Path file) throws IOException {
        return Files.readAllLines(file).stream().filter(line -> !line.isBlank() && !line.startsWith("#")).toList();
    }

    /// Each kind of check is the one that finds something at least once.
    @ParameterizedTest @CsvSource({
        "INVALIDATION_WITHOUT_FLUSH, TLB of processor",
        "ZAP_FORGETS_LARGE_PAGES, frame: ",
        "LOG_WITHOUT_PROTECTION, no log will tell of a write",
        "HOLE_IS_FREED_BEFORE_UNMAPPED, 'is being freed, and Root[tables='",
        "CONVERSION_LEAVES_MAPPINGS, page table: ",
        "MIRROR_ZAP_LEAVES_SECURE_EPT, ''",
        "INVALID_SLOT_IS_USED, ''",
        "FAULT_IGNORES_INVALIDATION, ''",
        "TD_VIOLATION_WAITS_FOR_INVALID_SLOT, a step does not end",
        "PREFAULT_WAITS_FOR_INVALID_SLOT, a step does not end"})
    void aPlantedDefectIsFoundAndItsSequenceIsCleanWithoutIt(Defect defect, String what) {
        var finding = new MmuFuzz(1, Set.of(defect)).run(60_000, done -> { });
        assertThat(finding).as("a finding").isNotNull();
        assertThat(finding.message()).contains(what);
        assertThat(MmuFuzz.replay(finding.sequence(), Set.of(defect))).as("replayed").isEqualTo(finding.message());
        assertThat(MmuFuzz.replay(finding.sequence(), Set.of())).as("without the defect").isNull();
    }

    private static final List<String> PRIVATE_PAGE = List.of("MACHINE 2 1 1 0 @0", "ATTRIBUTES 0 1024 1 @0", "CREATE 0 0 1024 0 0 0 @0",
            "ACCESS 0 1 5 0 @0");

    private static String replayed(List<String> first, String... more) {
        return MmuFuzz.replay(Stream.concat(first.stream(), Stream.of(more)).toList(), Set.of());
    }

    @Test void aPrivatePageThatTheHostCanReadIsFound() {
        assertThat(replayed(PRIVATE_PAGE)).isNull();
        assertThat(replayed(PRIVATE_PAGE, "TAMPER 5 0 1 @0")).startsWith("privacy: the host reads word 0 of private page 5");
    }

    @Test void aPrivatePageWithAnotherKeyIdIsFound() {
        assertThat(replayed(PRIVATE_PAGE, "TAMPER 5 0 0 @0")).startsWith("KeyID: private page 5 has KeyID 0");
    }

    /// Guests mostly find it first, for the Secure EPT is looked at now and then only.
    @Test void aSecureEptThatKeepsAPageIsFound() {
        assertThat(replayed(PRIVATE_PAGE, "DELETE 0 @0")).isNull();
        var steps = Stream.concat(PRIVATE_PAGE.stream(), Stream.of("DELETE 0 @0")).toList();
        assertThat(MmuFuzz.replay(steps, Set.of(Defect.MIRROR_ZAP_LEAVES_SECURE_EPT))).startsWith("Secure EPT: ");
    }

    @Test void aRingThatLeavesItsPagesWritableIsFound() {
        var steps = List.of("MACHINE 0 1 1 64 @0", "CREATE 0 0 16 0 0 1 @0", "ACCESS 0 1 5 0 @0", "HARVEST @0", "ACCESS 0 1 5 0 @0",
                "HARVEST @0");
        assertThat(MmuFuzz.replay(steps, Set.of())).isNull();
        assertThat(MmuFuzz.replay(steps, Set.of(Defect.LOG_WITHOUT_PROTECTION))).contains("no log will tell of a write");
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
