package cloister.cli;

import cloister.tdx.inspect.Field;
import cloister.tdx.inspect.Fields;
import cloister.tdx.inspect.ModuleSnapshot;
import cloister.tdx.inspect.SeptTable;
import cloister.vmm.UserError;
import cloister.vmm.observe.MemoryTypes;
import com.google.gson.Gson;
import com.google.gson.GsonBuilder;
import com.google.gson.JsonArray;
import com.google.gson.JsonDeserializationContext;
import com.google.gson.JsonDeserializer;
import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonParseException;
import com.google.gson.JsonPrimitive;
import com.google.gson.JsonSerializationContext;
import com.google.gson.JsonSerializer;
import com.google.gson.TypeAdapter;
import com.google.gson.stream.JsonReader;
import com.google.gson.stream.JsonWriter;
import java.io.IOException;
import java.lang.reflect.RecordComponent;
import java.lang.reflect.Type;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.Set;
import java.util.stream.StreamSupport;

/// Snapshots as JSON. Keys are the names of the snapshot's records, and the specification's names for metadata fields; 64-bit values
/// are strings in hexadecimal, because JSON's numbers lose bits in most readers. Of a metadata field the digits tell the size.
final class SnapshotJson {
    private static final int DIGITS_PER_BYTE = 2;
    private static final String MEMORY_TYPES = "memoryTypes";
    /// Components that are null where a TD has no Secure EPT, or an entry no table below.
    private static final Set<String> MAY_LACK = Set.of("secureEpt", "table");
    private static final Gson GSON = new GsonBuilder().setPrettyPrinting().disableHtmlEscaping()
            .registerTypeAdapter(long.class, new HexLong()).registerTypeAdapter(Long.class, new HexLong())
            .registerTypeAdapter(Fields.class, new FieldsAdapter()).create();

    private SnapshotJson() {
    }

    /// A snapshot or a part of one.
    static String write(Object snapshot) {
        return GSON.toJson(snapshot) + "\n";
    }

    /// A dump: the TDX module's snapshot with `memoryTypes` beside its parts.
    static String write(Dump dump) {
        var all = GSON.toJsonTree(dump.module()).getAsJsonObject();
        all.add(MEMORY_TYPES, GSON.toJsonTree(dump.memoryTypes()));
        return GSON.toJson(all) + "\n";
    }

    /// @param name of the file, for the message
    /// @throws UserError when `text` is not what [#write] makes of a snapshot
    static Dump read(String text, String name) {
        try {
            var all = GSON.fromJson(text, JsonObject.class);
            var module = GSON.fromJson(all, ModuleSnapshot.class);
            requireComplete(module, "");
            var memoryTypes = GSON.fromJson(all.get(MEMORY_TYPES), MemoryTypes.class);
            requireComplete(memoryTypes, MEMORY_TYPES);
            return new Dump(module, memoryTypes);
        } catch (JsonParseException | IllegalStateException | IllegalArgumentException | UnsupportedOperationException e) {
            throw UserError.badInput(name + " is no dump in JSON" + (e instanceof Incomplete ? " (" + e.getMessage() + ")" : "")
                    + ": make one with 'cloister run --dump-on-exit FILE.json'");
        }
    }

    /// A part that a dump must have and this one lacks.
    private static final class Incomplete extends JsonParseException {
        private static final long serialVersionUID = 1L;

        Incomplete(String message) {
            super(message);
        }
    }

    /// Every part must be there but those that a snapshot itself can lack: gson leaves null what the text does not name.
    private static void requireComplete(Object part, String path) {
        switch (part) {
            case null -> throw new Incomplete((path.isEmpty() ? "all" : path) + " is missing");
            case List<?> list -> {
                for (int i = 0; i < list.size(); i++) {
                    requireComplete(list.get(i), path + "[" + i + "]");
                }
            }
            case Record object -> {
                for (var component : object.getClass().getRecordComponents()) {
                    var value = valueOf(component, object);
                    if (value != null || !MAY_LACK.contains(component.getName())) {
                        requireComplete(value, path + (path.isEmpty() ? "" : ".") + component.getName());
                    }
                }
                if (object instanceof SeptTable table && !SeptTable.LEVELS.contains(table.level())) {
                    throw new Incomplete(path + ".level is no level");
                }
            }
            default -> {
            }
        }
    }

    private static Object valueOf(RecordComponent component, Record object) {
        try {
            return component.getAccessor().invoke(object);
        } catch (ReflectiveOperationException e) {
            throw new IllegalStateException(e);
        }
    }

    private static final class HexLong extends TypeAdapter<Long> {
        @Override public void write(JsonWriter out, Long value) throws IOException {
            out.value("0x" + Long.toHexString(value));
        }

        @Override public Long read(JsonReader in) throws IOException {
            return parse(in.nextString());
        }
    }

    private static long parse(String text) {
        if (!text.startsWith("0x")) {
            throw new NumberFormatException(text);
        }
        return Long.parseUnsignedLong(text, 2, text.length(), 16);
    }

    private static final class FieldsAdapter implements JsonSerializer<Fields>, JsonDeserializer<Fields> {
        @Override public JsonElement serialize(Fields fields, Type type, JsonSerializationContext context) {
            var object = new JsonObject();
            for (var field : fields.fields()) {
                String format = "0x%0" + DIGITS_PER_BYTE * field.elementBytes() + "x";
                if (field.values().size() == 1) {
                    object.addProperty(field.name(), String.format(Locale.ROOT, format, field.values().getFirst()));
                } else {
                    var array = new JsonArray();
                    field.values().forEach(v -> array.add(new JsonPrimitive(String.format(Locale.ROOT, format, v))));
                    object.add(field.name(), array);
                }
            }
            return object;
        }

        @Override public Fields deserialize(JsonElement json, Type type, JsonDeserializationContext context) {
            var fields = new ArrayList<Field>();
            json.getAsJsonObject().asMap().forEach((name, value) -> {
                var texts = value.isJsonArray()
                        ? StreamSupport.stream(value.getAsJsonArray().spliterator(), false).map(JsonElement::getAsString).toList()
                        : List.of(value.getAsString());
                int bytes = texts.isEmpty() ? 0 : (texts.getFirst().length() - "0x".length()) / DIGITS_PER_BYTE;
                fields.add(new Field(name, bytes, texts.stream().map(SnapshotJson::parse).toList()));
            });
            return new Fields(List.copyOf(fields));
        }
    }
}
