package cloister.tdx.vectors;

import cloister.tdx.replay.RecordedMemory;
import cloister.tdx.replay.VectorMismatch;
import cloister.tdx.replay.VectorPlatform;
import cloister.tdx.replay.VectorReplay;
import com.google.gson.JsonObject;
import java.io.IOException;
import java.nio.file.AccessDeniedException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Comparator;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.function.Consumer;
import java.util.function.IntConsumer;
import java.util.regex.Pattern;

/// A directory of recorded behaviour of the TDX module, and its replay on ours.
public final class VectorSet {
    private static final String MANIFEST = "MANIFEST.json";
    private static final Pattern SCENARIO = Pattern.compile("(.+\\.jsonl)(\\.gz)?");
    private static final int DEEPEST = 16;
    /// Heap that a replay's bookkeeping of one frame of memory takes, generously.
    private static final long HEAP_PER_FRAME = 8;

    private final VectorFiles files;
    private final List<Scenario> scenarios;
    private final Map<String, VectorPlatform> platforms;
    private final Map<String, String> families;
    /// Why scenarios cannot be replayed at all, by file.
    private final Map<String, String> unreadable;

    private VectorSet(VectorFiles files, List<Scenario> scenarios, Map<String, VectorPlatform> platforms,
            Map<String, String> families, Map<String, String> unreadable) {
        this.files = files;
        this.scenarios = scenarios;
        this.platforms = platforms;
        this.families = families;
        this.unreadable = unreadable;
    }

    /// Finds the scenarios under `path`. It may also be a folder within a directory of vectors, or one scenario: then the files that they
    /// name are looked for in the nearest folder above that has platform files.
    ///
    /// A scenario that cannot be read, or that the manifest lists and is missing, is found all the same: its outcome says why it fails.
    ///
    /// @throws MalformedVectors when there are no scenarios
    /// @throws IOException      when it cannot be read
    public static VectorSet open(Path path) throws IOException {
        if (!Files.exists(path)) {
            throw new MalformedVectors("there is no directory " + path);
        }
        var directory = root(path);
        var files = new VectorFiles(directory);
        var scenarios = new ArrayList<Scenario>();
        var platforms = new HashMap<String, VectorPlatform>();
        var unreadable = new TreeMap<String, String>();
        for (var name : names(path, directory)) {
            try {
                var header = files.header(name);
                if (header.has("setup")) {
                    continue;
                }
                text(header, "scenario", name);
                var scenario = new Scenario(name, text(header, "family", name), text(header, "group", name),
                        text(header, "platform", name));
                scenarios.add(scenario);
                if (!platforms.containsKey(scenario.platform())) {
                    platforms.put(scenario.platform(), platform(files, "platform-" + scenario.platform() + ".json"));
                }
            } catch (MalformedVectors e) {
                unreadable.put(name, e.getMessage());
            }
        }
        var about = new TreeMap<String, String>();
        manifest(path.equals(directory), files, about, name -> unreadable.putIfAbsent(name, "there is no file "
                + directory.resolve(name) + ", which " + MANIFEST + " lists"));
        unreadable.keySet().stream().filter(name -> scenarios.stream().noneMatch(s -> s.file().equals(name)))
                .forEach(name -> scenarios.add(new Scenario(name, folder(name), "?", "?")));
        if (scenarios.isEmpty()) {
            throw new MalformedVectors("there are no scenarios (*.jsonl) under " + path);
        }
        scenarios.sort(Comparator.comparing(Scenario::file));
        scenarios.forEach(s -> about.putIfAbsent(s.family(), ""));
        about.keySet().removeIf(family -> scenarios.stream().noneMatch(s -> s.family().equals(family)));
        return new VectorSet(files, List.copyOf(scenarios), platforms, about, unreadable);
    }

    private static Path root(Path path) throws IOException {
        if (Files.isDirectory(path) && hasPlatforms(path)) {
            return path;
        }
        for (var above = path.toAbsolutePath().normalize().getParent(); above != null; above = above.getParent()) {
            if (hasPlatforms(above)) {
                return above;
            }
        }
        return Files.isDirectory(path) ? path : path.toAbsolutePath().getParent();
    }

    private static boolean hasPlatforms(Path directory) throws IOException {
        try (var platforms = Files.newDirectoryStream(directory, "platform-*.json")) {
            return platforms.iterator().hasNext();
        } catch (AccessDeniedException e) {
            return false;
        }
    }

    private static List<String> names(Path path, Path directory) throws IOException {
        var start = directory.isAbsolute() ? path.toAbsolutePath().normalize() : path;
        try (var all = Files.walk(start, DEEPEST)) {
            return all.filter(Files::isRegularFile).map(file -> directory.relativize(file).toString().replace('\\', '/'))
                    .map(SCENARIO::matcher).filter(m -> m.matches() && !m.group(1).startsWith("setup/")).map(m -> m.group(1))
                    .distinct().sorted().toList();
        }
    }

    private static String folder(String name) {
        int slash = name.indexOf('/');
        return slash < 0 ? "?" : name.substring(0, slash);
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
            throw new MalformedVectors(name + " does not describe a platform (" + e.getMessage() + ")");
        }
    }

    /// What the manifest says of each family, and of files that are not there.
    ///
    /// @param whole whether all that it lists is wanted
    private static void manifest(boolean whole, VectorFiles files, Map<String, String> about, Consumer<String> missing) throws IOException {
        if (!files.has(MANIFEST)) {
            return;
        }
        var manifest = files.document(MANIFEST);
        try {
            for (var e : manifest.getAsJsonObject("families").entrySet()) {
                about.put(e.getKey(), e.getValue().getAsJsonObject().get("about").getAsString());
            }
            for (var row : manifest.getAsJsonArray("files")) {
                var name = row.getAsJsonArray().get(0).getAsString().replaceAll("\\.gz$", "");
                if (whole && !files.has(name)) {
                    missing.accept(name);
                }
            }
        } catch (RuntimeException e) {
            throw new MalformedVectors(MANIFEST + " has no families with \"about\", or no list of files");
        }
    }

    /// The scenarios, by file name.
    public List<Scenario> scenarios() {
        return scenarios;
    }

    /// The families in order, and what they are about when a manifest says so.
    public Map<String, String> families() {
        return families;
    }

    /// Replays all scenarios, at most `most` at a time: each thread reserves a memory for each platform, and keeps books of its frames on
    /// the heap.
    ///
    /// @return the outcomes in the order of [#scenarios]
    public List<Outcome> replay(int most) {
        return replay(most, begun -> { });
    }

    /// As [#replay(int)], for people who wait.
    ///
    /// @param progress hears before each scenario how many have begun, from several threads
    public List<Outcome> replay(int most, IntConsumer progress) {
        long frames = platforms.values().stream().mapToLong(p -> p.memoryBytes() >> 12).sum();
        long fit = Runtime.getRuntime().maxMemory() / 2 / Math.max(1, frames * HEAP_PER_FRAME);
        int threads = (int) Math.clamp(fit, 1, Math.min(most, scenarios.size()));
        var outcomes = new Outcome[scenarios.size()];
        var next = new AtomicInteger();
        try (var pool = Executors.newFixedThreadPool(threads, Thread.ofPlatform().name("vectors-", 0).factory())) {
            var workers = new ArrayList<Future<?>>();
            for (int i = 0; i < threads; i++) {
                workers.add(pool.submit(() -> {
                    work(outcomes, next, progress);
                    return null;
                }));
            }
            for (var worker : workers) {
                worker.get();
            }
        } catch (ExecutionException e) {
            switch (e.getCause()) {
                case Error error -> throw error;
                case RuntimeException defect -> throw defect;
                default -> throw new IllegalStateException(e.getCause());
            }
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
            throw new IllegalStateException("interrupted", e);
        }
        return Arrays.asList(outcomes);
    }

    private void work(Outcome[] outcomes, AtomicInteger next, IntConsumer progress) {
        var memories = new HashMap<String, RecordedMemory>();
        try {
            for (int i = next.getAndIncrement(); i < outcomes.length; i = next.getAndIncrement()) {
                progress.accept(i);
                outcomes[i] = replay(scenarios.get(i), memories);
            }
        } catch (RuntimeException | Error e) {
            next.set(outcomes.length); // the other threads need not go on
            throw e;
        } finally {
            memories.values().forEach(RecordedMemory::close);
        }
    }

    private Outcome replay(Scenario scenario, Map<String, RecordedMemory> memories) {
        var platform = platforms.get(scenario.platform());
        if (unreadable.containsKey(scenario.file()) || platform == null) {
            return new Outcome(scenario, 0, 0, Difference.unreadable(unreadable.get(scenario.file())));
        }
        VectorReplay replay = null;
        int steps = 0;
        try {
            steps = (int) files.lines(scenario.file()).stream().skip(1).filter(VectorReplay::counts).count();
            replay = new VectorReplay(files, platform, memories.computeIfAbsent(scenario.platform(), p -> new RecordedMemory(platform)));
            replay.run(scenario.file());
            return new Outcome(scenario, steps, replay.steps(), null);
        } catch (IOException e) {
            return new Outcome(scenario, 0, 0, Difference.unreadable(e.getMessage()));
        } catch (VectorMismatch m) {
            return new Outcome(scenario, steps, replay.steps(), difference(m));
        }
    }

    private static Difference difference(VectorMismatch m) {
        return new Difference(m.places().stream().map(p -> new Difference.Place(p.file(), p.line())).toList(), m.testCase(), m.call(),
                m.items().stream().map(i -> new Difference.Item(i.subject(), i.expected(), i.got(), i.reading())).toList(), m.problem());
    }
}
