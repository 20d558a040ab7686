package cloister.sim;

/// Takes the state that a [Persistent] declares, each name once.
public interface StateSink {
    /// A number or a flag (0 or 1).
    void field(String name, long value);

    /// Several numbers of one kind.
    void words(String name, long... values);

    /// Several bytes of one kind.
    default void bytes(String name, byte... values) {
        long[] words = new long[values.length];
        for (int i = 0; i < words.length; i++) {
            words[i] = values[i] & 0xff;
        }
        words(name, words);
    }

    /// A part with a name and state of its own.
    void part(Persistent part);

    /// A yes or no.
    default void flag(String name, boolean value) {
        field(name, value ? 1 : 0);
    }

    /// A value that is its text: an enum, a record of values, a list of such, or null.
    default void text(String name, Object value) {
        words(name, String.valueOf(value).chars().asLongStream().toArray());
    }
}
