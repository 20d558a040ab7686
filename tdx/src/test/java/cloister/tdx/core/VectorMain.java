package cloister.tdx.core;

import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStream;
import java.io.InputStreamReader;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.HashMap;
import java.util.Map;
import java.util.TreeMap;
import java.util.zip.GZIPInputStream;

/// Replays a directory of vectors: `DIR [PREFIX...]`, where a prefix selects scenario files such as `d/` or `a/boot`.
final class VectorMain {
    private VectorMain() {
    }

    static BufferedReader open(Path directory, String name) throws IOException {
        var plain = directory.resolve(name);
        InputStream in = Files.exists(plain) ? Files.newInputStream(plain)
                : new GZIPInputStream(Files.newInputStream(directory.resolve(name + ".gz")));
        return new BufferedReader(new InputStreamReader(in, StandardCharsets.UTF_8));
    }

    public static void main(String[] args) throws IOException {
        var directory = Path.of(args[0]);
        int verbose = Integer.getInteger("failures", 40);
        Map<String, int[]> counts = new TreeMap<>();
        Map<String, VectorPlatform> platforms = new HashMap<>();
        int failures = 0;
        long start = System.nanoTime();
        try (var all = Files.walk(directory)) {
            for (var file : all.filter(p -> p.toString().matches(".*/[a-h]/[^/]*\\.jsonl(\\.gz)?")).sorted().toList()) {
                var name = directory.relativize(file).toString().replaceAll("\\.gz$", "");
                if (!selected(name, args)) {
                    continue;
                }
                var header = VectorReplay.lines(n -> open(directory, n), name).get(0);
                var platform = platforms.computeIfAbsent(header.get("platform").getAsString(), p -> load(directory, p));
                var count = counts.computeIfAbsent(header.get("family").getAsString() + " "
                        + header.get("group").getAsString(), k -> new int[2]);
                count[1]++;
                try (var replay = new VectorReplay(n -> open(directory, n), platform)) {
                    replay.run(name);
                    count[0]++;
                } catch (VectorReplay.Mismatch mismatch) {
                    if (failures++ < verbose) {
                        System.out.println("FAIL " + mismatch.getMessage());
                    }
                }
            }
        }
        report(counts);
        System.out.printf("%.1f s%n", (System.nanoTime() - start) / 1e9);
    }

    private static VectorPlatform load(Path directory, String name) {
        try (var reader = open(directory, "platform-" + name + ".json")) {
            return new VectorPlatform(reader);
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }

    private static boolean selected(String name, String[] args) {
        for (int i = 1; i < args.length; i++) {
            if (name.startsWith(args[i])) {
                return true;
            }
        }
        return args.length == 1;
    }

    private static void report(Map<String, int[]> counts) {
        var families = new TreeMap<String, int[]>();
        counts.forEach((group, count) -> {
            System.out.printf("%-24s %4d/%d%n", group, count[0], count[1]);
            var family = families.computeIfAbsent(group.substring(0, 1), k -> new int[2]);
            family[0] += count[0];
            family[1] += count[1];
        });
        families.forEach((family, count) -> System.out.printf("family %s: %d/%d%n", family, count[0], count[1]));
    }
}
