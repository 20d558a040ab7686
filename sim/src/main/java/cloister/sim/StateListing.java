package cloister.sim;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;

/// The state of a [Persistent] and of everything in it, as names and values that can be compared.
public final class StateListing {
    private final Map<String, String> entries = new TreeMap<>();

    /// The state of `root` now.
    ///
    /// @throws IllegalStateException when two things have one name
    public static StateListing of(Persistent root) {
        var listing = new StateListing();
        root.describe(listing.new Level(root.stateName()));
        return listing;
    }

    /// Names and values in order of the names.
    public Map<String, String> entries() {
        return Map.copyOf(entries);
    }

    /// What is not the same in `other`: one line for each name, empty when the states are equal.
    public List<String> differences(StateListing other) {
        var names = new TreeMap<>(entries);
        names.putAll(other.entries);
        var result = new ArrayList<String>();
        for (var name : names.keySet()) {
            var here = entries.get(name);
            var there = other.entries.get(name);
            if (here == null || !here.equals(there)) {
                result.add(name + ": " + here + ", there " + there);
            }
        }
        return result;
    }

    private final class Level implements StateSink {
        private final String prefix;

        private Level(String prefix) {
            this.prefix = prefix;
        }

        @Override public void field(String name, long value) {
            put(name, "0x" + Long.toHexString(value));
        }

        @Override public void words(String name, long... values) {
            put(name, Arrays.toString(values));
        }

        @Override public void part(Persistent part) {
            part.describe(new Level(prefix + "/" + part.stateName()));
        }

        private void put(String name, String value) {
            if (entries.put(prefix + "." + name, value) != null) {
                throw new IllegalStateException("two fields are named " + prefix + "." + name);
            }
        }
    }
}
