package cloister.tdx.core;

/// Leaves the handling of a VM exit from deep inside it: to the VMM, whose registers are set, or back into the guest.
public final class Transition extends RuntimeException {
    private static final long serialVersionUID = 1L;
    public static final Transition TO_HOST = new Transition("TD exit");
    public static final Transition TO_GUEST = new Transition("back to the guest");

    private Transition(String message) {
        super(message, null, false, false);
    }
}
