package cloister.tdx.vectors;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.stream.Collectors;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/// Our TDX module does what the recorded one did, and the replay notices when it does not.
class BehaviourVectorsTest {
    private static final Path VECTORS = Path.of("..", "vectors", "1.5.06");
    private static final String PLATFORM = "spr-1lp4";
    private static final String HEADER = """
            {"scenario":"made","family":"x","group":"made","platform":"spr-1lp4"}
            """;
    private static final String SYS_INIT = """
            {"op":"seamcall","leaf":33,"out":{"rax":"RAX"}}
            """;

    @TempDir
    private Path folder;

    @Test void everyStepOfEveryScenarioIsReplayedWithoutADifference() throws IOException {
        var outcomes = VectorSet.open(VECTORS).replay(Runtime.getRuntime().availableProcessors());
        assertThat(outcomes.stream().filter(o -> o.difference() != null).map(o -> o.difference().text()).toList())
                .as("differences from the recorded module").isEmpty();
        assertThat(outcomes.stream().collect(Collectors.toMap(o -> o.scenario().file(), Outcome::replayed)))
                .as("steps replayed, by scenario").isEqualTo(recordedSteps());
    }

    /// What the manifest says was recorded, counted by whoever recorded it.
    private static Map<String, Integer> recordedSteps() throws IOException {
        JsonObject manifest = JsonParser.parseString(Files.readString(VECTORS.resolve("MANIFEST.json"))).getAsJsonObject();
        var steps = manifest.getAsJsonArray("files").asList().stream().map(row -> row.getAsJsonArray()).collect(Collectors.toMap(
                row -> row.get(0).getAsString().replaceAll("\\.gz$", ""), row -> row.get(1).getAsInt()));
        assertThat(steps).hasSize(manifest.get("total_scenarios").getAsInt());
        assertThat(steps.values().stream().mapToInt(n -> n).sum()).isEqualTo(manifest.get("total_steps").getAsInt());
        return steps;
    }

    @Test void aResultThatDiffersIsFoundAndSaidInWords() throws IOException {
        var outcome = replayed(HEADER + SYS_INIT.replace("RAX", "0x0") + SYS_INIT.replace("RAX", "0xc000010000000002"));
        assertThat(outcome.passed()).isFalse();
        assertThat(outcome.replayed()).isEqualTo(1);
        assertThat(outcome.steps()).isEqualTo(2);
        assertThat(outcome.difference()).extracting(Difference::file, Difference::line, Difference::call, Difference::subject,
                Difference::expected, Difference::got).containsExactly("x/made.jsonl", 3, "TDH.SYS.INIT on LP 0", "rax",
                "0xc000010000000002", "0xc000050000000000");
        assertThat(outcome.difference().reading()).startsWith("expected OPERAND_INVALID of RDX, got SYS_INIT_NOT_PENDING");
    }

    @Test void aRegisterThatMustNotChangeIsCompared() throws IOException {
        // No leaf has this number: the failure leaves RCX alone.
        var outcome = replayed(HEADER + """
                {"op":"seamcall","leaf":9999,"in":{"rcx":"0x5"},"out":{"rax":"*","rcx":"0x6"}}
                """);
        assertThat(outcome.difference().text()).contains("rcx: expected 0x6, got 0x5").contains("bits 1:0");
    }

    @Test void aDifferenceInASetupNamesTheSetup() throws IOException {
        write("setup/broken.jsonl", "{\"setup\":\"broken\"}\n" + SYS_INIT.replace("RAX", "0x1"));
        var outcome = replayed(HEADER + "{\"op\":\"include\",\"file\":\"setup/broken.jsonl\"}\n");
        assertThat(outcome.difference().file()).isEqualTo("setup/broken.jsonl");
        assertThat(outcome.difference().line()).isEqualTo(2);
    }

    @Test void aStepThatCannotBeReplayedIsAFailure() throws IOException {
        var outcome = replayed(HEADER + "{\"op\":\"teleport\"}\n");
        assertThat(outcome.passed()).isFalse();
        assertThat(outcome.difference().text()).contains("teleport");
    }

    @Test void eachScenarioBeginsAtPowerOn() throws IOException {
        write("x/one.jsonl", HEADER + SYS_INIT.replace("RAX", "0x0")
                + "{\"op\":\"host_write\",\"pa\":\"0x5000\",\"hex\":\"0102\"}\n");
        write("x/two.jsonl", HEADER + SYS_INIT.replace("RAX", "0x0")
                + "{\"op\":\"expect_mem\",\"pa\":\"0x5000\",\"zero\":true,\"len\":2}\n");
        platform();
        assertThat(VectorSet.open(folder).replay(1)).hasSize(2).allMatch(Outcome::passed);
    }

    @Test void whatIsMalformedIsNamed() throws IOException {
        assertThatThrownBy(() -> VectorSet.open(folder.resolve("nowhere"))).hasMessageContaining("there is no directory");
        assertThatThrownBy(() -> VectorSet.open(folder)).hasMessageContaining("no scenarios");
        assertThatThrownBy(() -> replayed(HEADER + "{\"op\":")).hasMessageContaining("x/made.jsonl, line 2: not JSON");
        assertThatThrownBy(() -> replayed(HEADER + "[]\n")).hasMessageContaining("line 2: not a JSON object");
        assertThatThrownBy(() -> replayed(HEADER + "{}\n")).hasMessageContaining("without \"op\"");
        assertThatThrownBy(() -> replayed("{}\n")).hasMessageContaining("names no family");
        assertThatThrownBy(() -> replayed(HEADER + "{\"op\":\"include\",\"file\":\"setup/none.jsonl\"}\n"))
                .isInstanceOf(MalformedVectors.class).hasMessageContaining("there is no file");
        write("x/made.jsonl", HEADER);
        write("MANIFEST.json", "{\"families\":{},\"files\":[[\"x/lost.jsonl\",1,1]]}");
        assertThatThrownBy(() -> VectorSet.open(folder)).hasMessageContaining("x/lost.jsonl, which MANIFEST.json lists");
    }

    private Outcome replayed(String scenario) throws IOException {
        platform();
        write("x/made.jsonl", scenario);
        List<Outcome> outcomes = VectorSet.open(folder).replay(1);
        assertThat(outcomes).hasSize(1);
        return outcomes.get(0);
    }

    private void platform() throws IOException {
        var name = "platform-" + PLATFORM + ".json";
        write(name, Files.readString(VECTORS.resolve(name)));
    }

    private void write(String name, String content) throws IOException {
        Files.createDirectories(folder.resolve(name).getParent());
        Files.writeString(folder.resolve(name), content);
    }
}
