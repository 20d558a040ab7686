package cloister.kvm.host;

/// Locks were taken in an order that can deadlock, or a sleeping lock under a spinning one: a defect of ours. The message shows
/// both chains.
public final class LockOrderViolation extends IllegalStateException {
    private static final long serialVersionUID = 1L;

    LockOrderViolation(String message) {
        super(message);
    }
}
