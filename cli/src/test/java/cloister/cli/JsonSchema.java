package cloister.cli;

import com.google.gson.JsonArray;
import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;

/// A schema of docs/, and the part of JSON Schema that it uses.
final class JsonSchema {
    private final JsonObject root;

    JsonSchema(String file) throws IOException {
        root = JsonParser.parseString(Files.readString(Path.of("..", "docs", file))).getAsJsonObject();
    }

    /// Where a document is not as the schema says.
    List<String> violations(JsonElement document) {
        var found = new ArrayList<String>();
        check(document, root, "", found);
        return found;
    }

    private void check(JsonElement value, JsonObject schema, String path, List<String> found) {
        for (var keyword : schema.keySet()) {
            var rule = schema.get(keyword);
            boolean good = switch (keyword) {
                case "$ref" -> {
                    check(value, root.getAsJsonObject("$defs").getAsJsonObject(rule.getAsString().substring("#/$defs/".length())), path,
                            found);
                    yield true;
                }
                case "type" -> isA(value, rule.getAsString());
                case "enum" -> rule.getAsJsonArray().contains(value);
                case "pattern" -> !isA(value, "string") || value.getAsString().matches(rule.getAsString());
                case "minimum" -> !isA(value, "integer") || value.getAsLong() >= rule.getAsLong();
                case "required" -> value.isJsonObject() && rule.getAsJsonArray().asList().stream().allMatch(n
                        -> value.getAsJsonObject().has(n.getAsString()));
                case "anyOf" -> rule.getAsJsonArray().asList().stream().anyMatch(s -> isValid(value, s.getAsJsonObject(), path));
                case "items" -> {
                    each(value.isJsonArray() ? value.getAsJsonArray() : new JsonArray(), rule.getAsJsonObject(), path, found);
                    yield true;
                }
                case "properties", "additionalProperties" -> {
                    members(value.isJsonObject() ? value.getAsJsonObject() : new JsonObject(), schema, path, found);
                    yield true;
                }
                case "$schema", "$defs", "title", "description" -> true;
                default -> throw new IllegalArgumentException("the schema uses " + keyword);
            };
            if (!good) {
                found.add(path + ": " + keyword + " " + rule);
            }
        }
    }

    private boolean isValid(JsonElement value, JsonObject schema, String path) {
        var found = new ArrayList<String>();
        check(value, schema, path, found);
        return found.isEmpty();
    }

    private void each(JsonArray values, JsonObject schema, String path, List<String> found) {
        for (int i = 0; i < values.size(); i++) {
            check(values.get(i), schema, path + "[" + i + "]", found);
        }
    }

    private void members(JsonObject value, JsonObject schema, String path, List<String> found) {
        var known = schema.has("properties") ? schema.getAsJsonObject("properties") : new JsonObject();
        var others = schema.get("additionalProperties");
        value.asMap().forEach((name, member) -> {
            if (known.has(name)) {
                check(member, known.getAsJsonObject(name), path + "." + name, found);
            } else if (others.isJsonObject()) {
                check(member, others.getAsJsonObject(), path + "." + name, found);
            } else {
                found.add(path + "." + name + ": is not in the schema");
            }
        });
    }

    private static boolean isA(JsonElement value, String type) {
        return switch (type) {
            case "object" -> value.isJsonObject();
            case "array" -> value.isJsonArray();
            case "string" -> value.isJsonPrimitive() && value.getAsJsonPrimitive().isString();
            case "boolean" -> value.isJsonPrimitive() && value.getAsJsonPrimitive().isBoolean();
            case "integer" -> value.isJsonPrimitive() && value.getAsJsonPrimitive().isNumber()
                    && value.getAsBigDecimal().stripTrailingZeros().scale() <= 0;
            default -> throw new IllegalArgumentException(type);
        };
    }
}
