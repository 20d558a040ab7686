package cloister.tdx.replay;

import com.google.gson.JsonArray;
import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import java.util.List;
import java.util.Set;
import java.util.function.IntConsumer;

/// An object of a step, read with the types that [VECTORS] gives its keys: 64-bit quantities are strings in hexadecimal, counts are
/// numbers. Every reader is strict, because what is read wrongly would be compared wrongly.
///
/// @param json the object
/// @param path its name within the step, empty for the step itself
record Step(JsonObject json, String path) {
    private static final String ANY = "*";

    Step(JsonObject json) {
        this(json, "");
    }

    /// A step that is not what the format says.
    static final class Malformed extends RuntimeException {
        private static final long serialVersionUID = 1L;

        Malformed(String message) {
            super(message, null, false, false);
        }
    }

    String op() {
        return text("op");
    }

    boolean has(String key) {
        return json.has(key);
    }

    private String name(String key) {
        return "\"" + (path.isEmpty() ? "" : path + ".") + key + "\"";
    }

    private Malformed wrong(String key, String must) {
        return new Malformed(name(key) + " must be " + must + (has(key) ? ", and is " + json.get(key) : ", and is missing"));
    }

    /// @throws Malformed when there is a key beyond those: ignoring it would be a skip
    void allow(Set<String> keys) {
        for (var key : json.keySet()) {
            if (!keys.contains(key)) {
                throw new Malformed("the key " + name(key) + " cannot be replayed");
            }
        }
    }

    String text(String key) {
        if (json.get(key) instanceof JsonElement e && e.isJsonPrimitive() && e.getAsJsonPrimitive().isString()) {
            return e.getAsString();
        }
        throw wrong(key, "a string");
    }

    /// A string that must be one of several.
    String oneOf(String key, List<String> words) {
        var text = text(key);
        if (!words.contains(text)) {
            throw wrong(key, "one of " + String.join(", ", words));
        }
        return text;
    }

    /// Whether the key is there and true.
    boolean flag(String key) {
        if (!has(key)) {
            return false;
        }
        if (json.get(key).isJsonPrimitive() && json.getAsJsonPrimitive(key).isBoolean()) {
            return json.get(key).getAsBoolean();
        }
        throw wrong(key, "true or false");
    }

    /// A 64-bit quantity; 0 when absent.
    long word(String key) {
        return has(key) ? required(key) : 0;
    }

    /// A 64-bit quantity that must be there.
    long required(String key) {
        if (has(key) && json.get(key).isJsonPrimitive()) {
            try {
                return VectorPlatform.number(json.get(key).getAsString());
            } catch (NumberFormatException e) {
                // Said below.
            }
        }
        throw wrong(key, "a 64-bit number in hexadecimal");
    }

    /// A small number; `absent` when the key is not there.
    int count(String key, int absent, int from, int to) {
        if (!has(key)) {
            return absent;
        }
        long value = required(key);
        if (value < from || value > to) {
            throw wrong(key, "a number from " + from + " to " + to);
        }
        return (int) value;
    }

    /// A small number that must be there.
    int count(String key, int from, int to) {
        if (!has(key)) {
            throw wrong(key, "a number");
        }
        return count(key, 0, from, to);
    }

    /// An object within; an empty one when absent.
    Step object(String key) {
        if (!has(key)) {
            return new Step(new JsonObject(), key);
        }
        if (json.get(key) instanceof JsonObject object) {
            return new Step(object, (path.isEmpty() ? "" : path + ".") + key);
        }
        throw wrong(key, "an object");
    }

    JsonArray array(String key) {
        if (json.get(key) instanceof JsonArray array) {
            return array;
        }
        throw wrong(key, "an array");
    }

    /// A value that results are compared with.
    Expected expected(String key) {
        return new Expected(has(key) && json.get(key).isJsonPrimitive() && ANY.equals(json.get(key).getAsString()), false,
                has(key) && !(json.get(key).isJsonPrimitive() && ANY.equals(json.get(key).getAsString())) ? required(key) : 0);
    }

    /// A recorded 64-bit value.
    ///
    /// @param any     every value is right
    /// @param implied the step does not list it; a rule gives it
    record Expected(boolean any, boolean implied, long value) {
        static Expected implied(long value) {
            return new Expected(false, true, value);
        }

        boolean accepts(long got) {
            return any || value == got;
        }

        @Override public String toString() {
            return any ? ANY : VectorWords.hex(value);
        }
    }

    /// A word that results are compared with, `gp` or a value: each equals itself, and `*` accepts all.
    static boolean accepts(String expected, String got) {
        return expected.equals(ANY) || expected.equals(got)
                || (expected.startsWith("0x") && got.startsWith("0x") && same(expected, got));
    }

    private static boolean same(String expected, String got) {
        return number(expected) == number(got);
    }

    /// A 64-bit quantity that is no value of a key.
    static long number(String text) {
        try {
            return VectorPlatform.number(text);
        } catch (NumberFormatException e) {
            throw new Malformed("\"" + text + "\" is no 64-bit number in hexadecimal");
        }
    }

    /// Calls `each` with the number in encoding order of every register that is a key.
    void eachRegister(IntConsumer each) {
        for (var key : json.keySet()) {
            int index = Registers.NAMES.indexOf(key);
            if (index < 0) {
                throw new Malformed(name(key) + " is no register that can be replayed");
            }
            each.accept(index);
        }
    }
}
