package cloister.tdx.vectors;

import static org.assertj.core.api.Assertions.assertThat;

import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Map;
import java.util.stream.Collectors;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/// Our TDX module does what the recorded one did.
class BehaviourVectorsTest {
    private static final Path VECTORS = Path.of("..", "vectors");

    @ParameterizedTest
    @ValueSource(strings = {"1.5.06", "1.5.06-random"})
    void everyStepOfEveryScenarioIsReplayedWithoutADifference(String name) throws IOException {
        var directory = VECTORS.resolve(name);
        var outcomes = VectorSet.open(directory).replay(Runtime.getRuntime().availableProcessors());
        assertThat(outcomes.stream().filter(o -> o.difference() != null).map(o -> o.difference().text()).toList())
                .as("differences from the recorded module").isEmpty();
        assertThat(outcomes.stream().collect(Collectors.toMap(o -> o.scenario().file(), Outcome::replayed)))
                .as("steps replayed, by scenario").isEqualTo(recordedSteps(directory));
    }

    /// What the manifest says was recorded, counted by whoever recorded it.
    private static Map<String, Integer> recordedSteps(Path directory) throws IOException {
        JsonObject manifest = JsonParser.parseString(Files.readString(directory.resolve("MANIFEST.json"))).getAsJsonObject();
        var steps = manifest.getAsJsonArray("files").asList().stream().map(row -> row.getAsJsonArray()).collect(Collectors.toMap(
                row -> row.get(0).getAsString().replaceAll("\\.gz$", ""), row -> row.get(1).getAsInt()));
        assertThat(steps).hasSize(manifest.get("total_scenarios").getAsInt());
        assertThat(steps.values().stream().mapToInt(n -> n).sum()).isEqualTo(manifest.get("total_steps").getAsInt());
        return steps;
    }
}
