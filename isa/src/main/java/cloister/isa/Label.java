package cloister.isa;

/// A place in the code of an [Assembler]; made by [Assembler#label()].
public final class Label {
    static final long UNBOUND = Long.MIN_VALUE;

    long address = UNBOUND;

    Label() {
    }

    boolean bound() {
        return address != UNBOUND;
    }

    /// The address; known once the label is placed.
    public long address() {
        if (!bound()) {
            throw new IllegalStateException("label used but never placed");
        }
        return address;
    }
}
