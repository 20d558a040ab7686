package cloister.tdx.vectors;

import cloister.tdx.replay.VectorReplay;
import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonParseException;
import com.google.gson.JsonParser;
import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStream;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import java.util.zip.GZIPInputStream;
import java.util.zip.ZipException;

/// The files of a directory of vectors. Setups are kept once read: many scenarios begin with them.
final class VectorFiles implements VectorReplay.Files {
    private static final String COMPRESSED = ".gz";

    private final Path directory;
    private final Map<String, List<JsonObject>> setups = new ConcurrentHashMap<>();

    VectorFiles(Path directory) {
        this.directory = directory;
    }

    boolean has(String name) {
        return Files.exists(directory.resolve(name)) || Files.exists(directory.resolve(name + COMPRESSED));
    }

    private BufferedReader open(String name) throws IOException {
        var plain = directory.resolve(name);
        var compressed = directory.resolve(name + COMPRESSED);
        InputStream in;
        if (Files.exists(plain)) {
            in = Files.newInputStream(plain);
        } else if (Files.exists(compressed)) {
            in = new GZIPInputStream(Files.newInputStream(compressed));
        } else {
            throw new MalformedVectors("there is no file " + plain);
        }
        return new BufferedReader(new InputStreamReader(in, StandardCharsets.UTF_8));
    }

    @Override public List<JsonObject> lines(String name) throws IOException {
        var known = setups.get(name);
        if (known != null) {
            return known;
        }
        var lines = read(name, Integer.MAX_VALUE);
        for (int i = 1; i < lines.size(); i++) {
            if (!(lines.get(i).get("op") instanceof JsonElement op && op.isJsonPrimitive())) {
                throw new MalformedVectors(directory.resolve(name) + ", line " + (i + 1) + ": a step without \"op\"");
            }
        }
        if (name.startsWith("setup/")) {
            setups.put(name, lines);
        }
        return lines;
    }

    /// The first line of a scenario.
    JsonObject header(String name) throws IOException {
        return read(name, 1).get(0);
    }

    private List<JsonObject> read(String name, int limit) throws IOException {
        var lines = new ArrayList<JsonObject>();
        try (var reader = open(name)) {
            for (String line = reader.readLine(); line != null && lines.size() < limit; line = reader.readLine()) {
                lines.add(object(name, lines.size() + 1, line));
            }
        } catch (ZipException | java.io.EOFException e) {
            throw new MalformedVectors(directory.resolve(name) + COMPRESSED + ": " + e.getMessage());
        }
        if (lines.isEmpty()) {
            throw new MalformedVectors(directory.resolve(name) + " is empty");
        }
        return lines;
    }

    /// A file that is one object.
    JsonObject document(String name) throws IOException {
        var text = new StringBuilder();
        try (var reader = open(name)) {
            reader.lines().forEach(line -> text.append(line).append('\n'));
        }
        return object(name, 0, text.toString());
    }

    private JsonObject object(String name, int line, String text) throws MalformedVectors {
        String where = directory.resolve(name) + (line == 0 ? "" : ", line " + line);
        try {
            if (JsonParser.parseString(text) instanceof JsonObject object) {
                return object;
            }
        } catch (JsonParseException e) {
            throw new MalformedVectors(where + ": not JSON");
        }
        throw new MalformedVectors(where + ": not a JSON object");
    }
}
