package cloister.silicon;

import java.util.Locale;

/// What one instruction did: how far RIP went, or the exception.
///
/// @param vector    the exception, or [Outcome#COMPLETED], or [Outcome#LOST] where silicon has no answer
/// @param errorCode of the exception, 0 without one
/// @param advance   new RIP less old RIP of a completed instruction: its length, unless it branched
record OpcodeOutcome(int vector, int errorCode, long advance) {
    private static final int GP = 13, PF = 14;

    static OpcodeOutcome fault(int vector, int errorCode) {
        boolean code = vector == 8 || (vector >= 10 && vector <= PF) || vector == 17;
        return new OpcodeOutcome(vector, code ? errorCode : 0, 0);
    }

    static OpcodeOutcome completed(long advance) {
        return new OpcodeOutcome(Outcome.COMPLETED, 0, advance);
    }

    static OpcodeOutcome of(Outcome outcome, long start) {
        return outcome.faulted() ? fault(outcome.vector(), outcome.errorCode())
            : outcome.vector() == Outcome.LOST ? new OpcodeOutcome(Outcome.LOST, 0, 0) : completed(outcome.state().rip - start);
    }

    /// #GP(0).
    static OpcodeOutcome gp() {
        return fault(GP, 0);
    }

    /// #UD.
    static OpcodeOutcome ud() {
        return fault(6, 0);
    }

    @Override public String toString() {
        return vector == Outcome.COMPLETED ? "completes, RIP + " + advance : vector == Outcome.LOST ? "lost"
            : String.format(Locale.ROOT, "vector %d (0x%x)", vector, errorCode);
    }
}
