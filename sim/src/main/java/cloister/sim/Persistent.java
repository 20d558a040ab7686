package cloister.sim;

/// What holds state that software can see. It declares the state by name, so that all of a platform's can be listed, compared and, some
/// day, saved. Taken only at quiescent points: nothing that matters is on a Java stack then. [DESIGN Determinism]
///
/// Looking changes nothing. Left out is what a restored object makes anew: caches of decoded code, short cuts, listeners, counters for
/// people.
public interface Persistent {
    /// The name, unique among the parts of the same owner.
    String stateName();

    /// Tells every field and every part.
    void describe(StateSink out);
}
