package cloister.tdx.inspect;

import java.util.List;

/// The metadata fields of one structure, in the order of the specification's tables.
public record Fields(List<Field> fields) {
    /// The first element of the field `name`.
    ///
    /// @throws IllegalArgumentException when there is no such field
    public long value(String name) {
        return field(name).values().getFirst();
    }

    /// The field `name`.
    ///
    /// @throws IllegalArgumentException when there is no such field
    public Field field(String name) {
        return fields.stream().filter(f -> f.name().equals(name)).findFirst()
                .orElseThrow(() -> new IllegalArgumentException("no field " + name));
    }
}
