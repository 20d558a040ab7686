package cloister.cli.guest;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.HexFormat;
import java.util.List;

/// The SHA-256 checksums of the files of a folder, kept beside them in the format of sha256sum(1).
record Checksums(Path folder) {
    static final String FILE = "SHA256SUMS";
    private static final int CHUNK = 1 << 16;

    /// Writes the checksums of `names`.
    void write(List<String> names) throws IOException {
        var lines = new StringBuilder();
        for (String name : names) {
            lines.append(sha256(folder.resolve(name))).append("  ").append(name).append('\n');
        }
        Files.writeString(folder.resolve(FILE), lines);
    }

    /// Whether every one of `names` is there and is what its checksum says.
    boolean hold(List<String> names) {
        try {
            var lines = Files.readAllLines(folder.resolve(FILE));
            for (String name : names) {
                if (!lines.contains(sha256(folder.resolve(name)) + "  " + name)) {
                    return false;
                }
            }
            return true;
        } catch (IOException e) {
            return false; // what cannot be read is not whole
        }
    }

    private static String sha256(Path file) throws IOException {
        try (var in = Files.newInputStream(file)) {
            var digest = MessageDigest.getInstance("SHA-256");
            var chunk = new byte[CHUNK];
            for (int n = in.read(chunk); n >= 0; n = in.read(chunk)) {
                digest.update(chunk, 0, n);
            }
            return HexFormat.of().formatHex(digest.digest());
        } catch (NoSuchAlgorithmException e) {
            throw new AssertionError("every JDK has SHA-256", e);
        }
    }
}
