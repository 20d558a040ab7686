package cloister.sim;

/// Takes the state that a [Persistent] declares, each name once.
public interface StateSink {
    /// A number or a flag (0 or 1).
    void field(String name, long value);

    /// Several numbers of one kind.
    void words(String name, long... values);

    /// A part with a name and state of its own.
    void part(Persistent part);
}
