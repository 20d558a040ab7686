package cloister.cpu.core;

/// Unwinds from an instruction that must be executed on its own, because a trap follows it and blocks look at events at their end
/// only. Nothing has happened yet; the instruction starts again, by [Interpreter#step]. Stackless singleton.
public final class StepAlone extends RuntimeException {
    private static final long serialVersionUID = 1L;
    static final StepAlone INSTANCE = new StepAlone();

    private StepAlone() {
        super(null, null, false, false);
    }
}
