package cloister.tdx.replay;

/// A recorded result that differs from ours, or a step that cannot be replayed.
public final class VectorMismatch extends RuntimeException {
    private static final long serialVersionUID = 1L;

    private final String subject;
    private final String expected;
    private final String got;
    private final String reading;
    private String file;
    private int line;
    private String call;

    /// @param subject  the register, memory or property compared
    /// @param expected what was recorded
    /// @param got      what we did
    /// @param reading  what the difference means: names, fields, bits; may be empty
    public VectorMismatch(String subject, String expected, String got, String reading) {
        super(subject + ": expected " + expected + ", got " + got);
        this.subject = subject;
        this.expected = expected;
        this.got = got;
        this.reading = reading;
    }

    /// Adds where it happened, unless a nested file did so already.
    public VectorMismatch at(String inFile, int atLine, String inCall) {
        if (file == null) {
            file = inFile;
            line = atLine;
            call = inCall;
        }
        return this;
    }

    /// The register, memory or property compared.
    public String subject() {
        return subject;
    }

    /// What was recorded.
    public String expected() {
        return expected;
    }

    /// What we did.
    public String got() {
        return got;
    }

    /// What the difference means; may be empty.
    public String reading() {
        return reading;
    }

    /// The file of the step: the scenario's, or that of a setup which it includes.
    public String file() {
        return file;
    }

    /// The step's line in the file, from 1.
    public int line() {
        return line;
    }

    /// The step in words.
    public String call() {
        return call;
    }
}
