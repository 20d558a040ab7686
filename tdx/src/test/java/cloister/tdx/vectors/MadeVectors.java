package cloister.tdx.vectors;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;

/// A directory of vectors that a test makes.
final class MadeVectors {
    static final Path RECORDED = Path.of("..", "vectors", "1.5.06");
    static final String HEADER = """
            {"scenario":"made","family":"x","group":"made","platform":"spr-1lp4"}
            """;
    private static final String PLATFORM = "platform-spr-1lp4.json";

    final Path folder;

    MadeVectors(Path folder) throws IOException {
        this.folder = folder;
        write(PLATFORM, Files.readString(RECORDED.resolve(PLATFORM)));
        Files.createDirectories(folder.resolve("setup"));
        try (var setups = Files.newDirectoryStream(RECORDED.resolve("setup"))) {
            for (var setup : setups) {
                Files.copy(setup, folder.resolve("setup").resolve(setup.getFileName()));
            }
        }
    }

    void write(String name, String content) throws IOException {
        Files.createDirectories(folder.resolve(name).getParent());
        Files.writeString(folder.resolve(name), content);
    }

    /// Replays one scenario of these steps.
    Outcome replay(String steps) throws IOException {
        write("x/made.jsonl", HEADER + steps);
        return VectorSet.open(folder.resolve("x/made.jsonl")).replay(1).getFirst();
    }
}
