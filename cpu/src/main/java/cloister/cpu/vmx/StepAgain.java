package cloister.cpu.vmx;

/// Unwinds from an instruction that must be executed on its own, because a trap-like VM exit may follow it: engines look at
/// events at block ends only. Nothing has happened yet; the instruction starts again. Stackless singleton.
final class StepAgain extends RuntimeException {
    private static final long serialVersionUID = 1L;
    static final StepAgain INSTANCE = new StepAgain();

    private StepAgain() {
        super(null, null, false, false);
    }
}
