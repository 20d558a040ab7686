package cloister.tdx.replay;

import java.util.List;

/// The end of a replay: recorded results that differ from ours, or a step that cannot be replayed.
public final class VectorMismatch extends RuntimeException {
    private static final long serialVersionUID = 1L;

    /// One value that differs.
    ///
    /// @param subject  the register, memory or property compared
    /// @param expected what was recorded
    /// @param got      what we did
    /// @param reading  what the difference means: names, fields, bits; may be empty
    public record Item(String subject, String expected, String got, String reading) {
    }

    /// A place in a file.
    ///
    /// @param file its name under the vectors' directory
    /// @param line from 1
    public record Place(String file, int line) {
        @Override public String toString() {
            return file + ":" + line;
        }
    }

    private final transient List<Item> items;
    private final String problem;
    private transient List<Place> places = List.of();
    private String testCase = "";
    private String call = "";

    /// Values that differ, at least one.
    VectorMismatch(List<Item> items) {
        super(items.getFirst().subject() + ": expected " + items.getFirst().expected() + ", got " + items.getFirst().got(), null,
                false, false);
        this.items = List.copyOf(items);
        this.problem = "";
    }

    /// One value that differs.
    VectorMismatch(String subject, String expected, String got, String reading) {
        this(List.of(new Item(subject, expected, got, reading)));
    }

    /// What stops the replay although no value differs.
    VectorMismatch(String problem) {
        super(problem, null, false, false);
        this.items = List.of();
        this.problem = problem;
    }

    /// Adds where it happened, unless a nested file did so already.
    VectorMismatch at(List<Place> at, String inCase, String inCall) {
        if (places.isEmpty()) {
            places = List.copyOf(at);
            testCase = inCase;
            call = inCall;
        }
        return this;
    }

    /// The values of the step that differ; none when there is a [#problem].
    public List<Item> items() {
        return items;
    }

    /// Why the step cannot be replayed; empty when values differ.
    public String problem() {
        return problem;
    }

    /// The step's place, then those of the steps that include its file, innermost first.
    public List<Place> places() {
        return places;
    }

    /// The label of the last reset; may be empty.
    public String testCase() {
        return testCase;
    }

    /// The step in words.
    public String call() {
        return call;
    }
}
