package cloister.tdx.legality;

import cloister.tdx.replay.VectorPlatform;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HexFormat;
import java.util.List;

/// The recorded vectors as data, for tests that check their own rules against them.
final class Recorded {
    static final Path VECTORS = Path.of("..", "vectors", "1.5.06");

    private Recorded() {
    }

    /// The files of a family whose name starts so; only those that are not compressed.
    static List<String> scenarios(String family, String prefix) throws IOException {
        try (var files = Files.list(VECTORS.resolve(family))) {
            return files.map(f -> f.getFileName().toString()).filter(n -> n.startsWith(prefix) && n.endsWith(".jsonl")).sorted()
                    .map(n -> family + "/" + n).toList();
        }
    }

    /// All steps of one kind in such files.
    static List<JsonObject> steps(String family, String prefix, String op) throws IOException {
        var steps = new ArrayList<JsonObject>();
        for (var scenario : scenarios(family, prefix)) {
            lines(scenario).stream().filter(s -> is(s, op)).forEach(steps::add);
        }
        return steps;
    }

    /// The steps of a file, with those of the files that it includes.
    static List<JsonObject> withIncludes(String file) throws IOException {
        var steps = new ArrayList<JsonObject>();
        for (var step : lines(file)) {
            if (is(step, "include")) {
                steps.addAll(withIncludes(step.get("file").getAsString()));
            } else {
                steps.add(step);
            }
        }
        return steps;
    }

    private static List<JsonObject> lines(String file) throws IOException {
        return Files.readAllLines(VECTORS.resolve(file)).stream().skip(1).map(l -> JsonParser.parseString(l).getAsJsonObject()).toList();
    }

    static boolean is(JsonObject step, String op) {
        return step.get("op").getAsString().equals(op);
    }

    static long number(JsonObject step, String name) {
        return VectorPlatform.number(step.get(name).getAsString());
    }

    /// The bytes of a host_write that says them.
    static byte[] bytes(JsonObject step) {
        if (step.has("hex")) {
            return HexFormat.of().parseHex(step.get("hex").getAsString());
        }
        var data = new byte[step.has("fill") ? step.get("len").getAsInt() : 0];
        Arrays.fill(data, step.has("fill") ? (byte) Integer.parseInt(step.get("fill").getAsString(), 16) : 0);
        return data;
    }
}
