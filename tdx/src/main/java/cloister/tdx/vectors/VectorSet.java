package cloister.tdx.vectors;

import cloister.tdx.replay.RecordedMemory;
import cloister.tdx.replay.VectorMismatch;
import cloister.tdx.replay.VectorPlatform;
import cloister.tdx.replay.VectorReplay;
import com.google.gson.JsonObject;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.regex.Pattern;

/// A directory of recorded behaviour of the TDX module, and its replay on ours.
public final class VectorSet {
    private static final String MANIFEST = "MANIFEST.json";
    private static final Pattern SCENARIO = Pattern.compile("([^/]+)/[^/]+\\.jsonl(\\.gz)?");

    private final VectorFiles files;
    private final List<Scenario> scenarios;
    private final Map<String, VectorPlatform> platforms;
    private final Map<String, String> families;

    private VectorSet(VectorFiles files, List<Scenario> scenarios, Map<String, VectorPlatform> platforms,
            Map<String, String> families) {
        this.files = files;
        this.scenarios = scenarios;
        this.platforms = platforms;
        this.families = families;
    }

    /// Finds the scenarios under `directory`.
    ///
    /// @throws MalformedVectors when it holds none, or not all that its manifest lists
    /// @throws IOException      when it cannot be read
    public static VectorSet open(Path directory) throws IOException {
        if (!Files.isDirectory(directory)) {
            throw new MalformedVectors("there is no directory " + directory);
        }
        var files = new VectorFiles(directory);
        var scenarios = new ArrayList<Scenario>();
        var platforms = new HashMap<String, VectorPlatform>();
        for (var name : names(directory)) {
            var header = files.header(name);
            var scenario = new Scenario(name, text(header, "family", name), text(header, "group", name),
                    text(header, "platform", name));
            scenarios.add(scenario);
            if (!platforms.containsKey(scenario.platform())) {
                platforms.put(scenario.platform(), platform(files, "platform-" + scenario.platform() + ".json"));
            }
        }
        if (scenarios.isEmpty()) {
            throw new MalformedVectors("there are no scenarios (*/*.jsonl) under " + directory);
        }
        return new VectorSet(files, List.copyOf(scenarios), platforms, families(directory, files, scenarios));
    }

    private static List<String> names(Path directory) throws IOException {
        try (var all = Files.walk(directory, 2)) {
            return all.map(path -> directory.relativize(path).toString().replace('\\', '/'))
                    .filter(name -> SCENARIO.matcher(name).matches() && !name.startsWith("setup/"))
                    .map(name -> name.replaceAll("\\.gz$", "")).sorted().toList();
        }
    }

    private static String text(JsonObject header, String name, String file) throws MalformedVectors {
        if (!header.has(name) || !header.get(name).isJsonPrimitive()) {
            throw new MalformedVectors(file + ": the first line names no " + name);
        }
        return header.get(name).getAsString();
    }

    private static VectorPlatform platform(VectorFiles files, String name) throws IOException {
        var document = files.document(name);
        try {
            return new VectorPlatform(document);
        } catch (RuntimeException e) {
            throw new MalformedVectors(name + " does not describe a platform (" + e + ")");
        }
    }

    /// What the manifest says of each family, once it is certain that every file it lists is there.
    private static Map<String, String> families(Path directory, VectorFiles files, List<Scenario> scenarios)
            throws IOException {
        var about = new TreeMap<String, String>();
        scenarios.forEach(s -> about.put(s.family(), ""));
        if (!files.has(MANIFEST)) {
            return about;
        }
        var manifest = files.document(MANIFEST);
        try {
            for (var e : manifest.getAsJsonObject("families").entrySet()) {
                about.put(e.getKey(), e.getValue().getAsJsonObject().get("about").getAsString());
            }
            for (var row : manifest.getAsJsonArray("files")) {
                var name = row.getAsJsonArray().get(0).getAsString();
                if (!Files.exists(directory.resolve(name))) {
                    throw new MalformedVectors("there is no file " + directory.resolve(name) + ", which " + MANIFEST + " lists");
                }
            }
        } catch (RuntimeException e) {
            throw new MalformedVectors(directory.resolve(MANIFEST) + " is not a manifest (" + e + ")");
        }
        return about;
    }

    /// The scenarios, by file name.
    public List<Scenario> scenarios() {
        return scenarios;
    }

    /// The families in order, and what they are about when a manifest says so.
    public Map<String, String> families() {
        return families;
    }

    /// Replays all scenarios, `threads` at a time. Each thread reserves one memory of the platform's size for each size.
    ///
    /// @return the outcomes in the order of [#scenarios]
    /// @throws IOException when a file is malformed or cannot be read
    public List<Outcome> replay(int threads) throws IOException {
        var outcomes = new Outcome[scenarios.size()];
        var next = new AtomicInteger();
        try (var pool = Executors.newFixedThreadPool(threads, Thread.ofPlatform().name("vectors-", 0).factory())) {
            var workers = new ArrayList<Future<?>>();
            for (int i = 0; i < threads; i++) {
                workers.add(pool.submit(() -> {
                    work(outcomes, next);
                    return null;
                }));
            }
            for (var worker : workers) {
                worker.get();
            }
        } catch (ExecutionException e) {
            switch (e.getCause()) {
                case IOException io -> throw io;
                case Error error -> throw error;
                default -> throw new IllegalStateException(e.getCause());
            }
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
            throw new IOException("interrupted");
        }
        return Arrays.asList(outcomes);
    }

    private void work(Outcome[] outcomes, AtomicInteger next) throws IOException {
        var memories = new HashMap<Long, RecordedMemory>();
        try {
            for (int i = next.getAndIncrement(); i < outcomes.length; i = next.getAndIncrement()) {
                var platform = platforms.get(scenarios.get(i).platform());
                outcomes[i] = replay(scenarios.get(i), platform,
                        memories.computeIfAbsent(platform.memoryBytes(), RecordedMemory::new));
            }
        } catch (IOException | RuntimeException | Error e) {
            next.set(outcomes.length); // the other threads need not go on
            throw e;
        } finally {
            memories.values().forEach(RecordedMemory::close);
        }
    }

    private Outcome replay(Scenario scenario, VectorPlatform platform, RecordedMemory memory) throws IOException {
        int steps = (int) files.lines(scenario.file()).stream().skip(1).filter(VectorReplay::counts).count();
        var replay = new VectorReplay(files, platform, memory);
        try {
            replay.run(scenario.file());
            return new Outcome(scenario, steps, replay.steps(), null);
        } catch (VectorMismatch m) {
            return new Outcome(scenario, steps, replay.steps(), new Difference(m.file(), m.line(), m.call(), m.subject(),
                    m.expected(), m.got(), m.reading()));
        }
    }
}
