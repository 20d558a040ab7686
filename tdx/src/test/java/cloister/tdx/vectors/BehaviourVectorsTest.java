package cloister.tdx.vectors;

import static org.assertj.core.api.Assertions.assertThat;

import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Map;
import java.util.stream.Collectors;
import org.junit.jupiter.api.Test;

/// Our TDX module does what the recorded one did.
class BehaviourVectorsTest {
    private static final Path VECTORS = Path.of("..", "vectors", "1.5.06");
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
}
