package cloister.tdx.vectors;

import cloister.tdx.replay.VectorReplay;
import com.google.gson.JsonObject;
import com.google.gson.JsonParseException;
import com.google.gson.JsonParser;
import com.google.gson.Strictness;
import com.google.gson.stream.JsonReader;
import com.google.gson.stream.JsonToken;
import java.io.BufferedReader;
import java.io.EOFException;
import java.io.IOException;
import java.io.InputStream;
import java.io.InputStreamReader;
import java.io.Reader;
import java.io.StringReader;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.InvalidPathException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import java.util.zip.GZIPInputStream;

/// The files of a directory of vectors. Setups are kept once read: many scenarios begin with them.
final class VectorFiles implements VectorReplay.Files {
    private static final String COMPRESSED = ".gz";
    private static final String SETUP = "setup/";
    /// What a file may hold, in characters: a compressed one can pretend to be endless.
    private static final long MAX_CHARACTERS = 1L << 28;

    private final Path directory;
    private final Map<String, List<JsonObject>> setups = new ConcurrentHashMap<>();

    VectorFiles(Path directory) {
        this.directory = directory;
    }

    private Path path(String name) throws MalformedVectors {
        try {
            var path = directory.resolve(name).normalize();
            if (path.startsWith(directory.normalize())) {
                return path;
            }
        } catch (InvalidPathException e) {
            // Said below.
        }
        throw new MalformedVectors(name + " is no file of " + directory);
    }

    boolean has(String name) throws MalformedVectors {
        return Files.isRegularFile(path(name)) || Files.isRegularFile(path(name + COMPRESSED));
    }

    private BufferedReader open(String name) throws IOException {
        var plain = path(name);
        var compressed = path(name + COMPRESSED);
        if (!has(name)) {
            throw new MalformedVectors("there is no file " + plain);
        }
        boolean packed = !Files.isRegularFile(plain);
        InputStream in = Files.newInputStream(packed ? compressed : plain);
        try {
            return new BufferedReader(new InputStreamReader(packed ? new GZIPInputStream(in) : in, StandardCharsets.UTF_8));
        } catch (IOException e) {
            in.close();
            throw e;
        }
    }

    @Override public List<JsonObject> lines(String name) throws IOException {
        var known = setups.get(name);
        if (known != null) {
            return known;
        }
        var lines = read(name, Integer.MAX_VALUE);
        if (name.startsWith(SETUP)) {
            setups.put(name, lines);
        }
        return lines;
    }

    /// The first line of a scenario.
    JsonObject header(String name) throws IOException {
        return read(name, 1).get(0);
    }

    /// Empty lines are null.
    private List<JsonObject> read(String name, int limit) throws IOException {
        var lines = new ArrayList<JsonObject>();
        long characters = 0;
        try (var reader = open(name)) {
            for (String line = reader.readLine(); line != null && lines.size() < limit; line = reader.readLine()) {
                characters += line.length();
                if (characters > MAX_CHARACTERS) {
                    throw new MalformedVectors(directory.resolve(name) + " is larger than " + MAX_CHARACTERS + " characters");
                }
                lines.add(line.isBlank() ? null : object(name, lines.size() + 1, new StringReader(line)));
            }
        } catch (MalformedVectors e) {
            throw e;
        } catch (IOException e) {
            throw new MalformedVectors("cannot read " + directory.resolve(name) + " ("
                    + (e instanceof EOFException ? "it is cut short" : e.getMessage()) + ")");
        }
        if (lines.isEmpty() || lines.getFirst() == null) {
            throw new MalformedVectors(directory.resolve(name) + " is empty, or its first line is");
        }
        return lines;
    }

    /// A file that is one object.
    JsonObject document(String name) throws IOException {
        try (var reader = open(name)) {
            return object(name, 0, reader);
        }
    }

    private JsonObject object(String name, int line, Reader text) throws MalformedVectors {
        String where = directory.resolve(name) + (line == 0 ? "" : ", line " + line);
        try {
            var reader = new JsonReader(text);
            reader.setStrictness(Strictness.STRICT);
            if (JsonParser.parseReader(reader) instanceof JsonObject object && reader.peek() == JsonToken.END_DOCUMENT) {
                return object;
            }
        } catch (JsonParseException | NumberFormatException | IOException e) {
            throw new MalformedVectors(where + ": not JSON");
        }
        throw new MalformedVectors(where + ": not a JSON object");
    }
}
