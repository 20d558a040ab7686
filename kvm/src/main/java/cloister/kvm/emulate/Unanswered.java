package cloister.kvm.emulate;

/// Unwinds from an instruction that needs an answer of the VMM. Stackless singleton.
final class Unanswered extends RuntimeException {
    private static final long serialVersionUID = 1L;
    static final Unanswered INSTANCE = new Unanswered();

    private Unanswered() {
        super(null, null, false, false);
    }
}
