package cloister.kvm.emulate;

/// An emulated access that the guest sees as #GP(0). Stackless.
public final class GuestGp extends RuntimeException {
    private static final long serialVersionUID = 1L;
    public static final GuestGp INSTANCE = new GuestGp();

    private GuestGp() {
        super(null, null, false, false);
    }
}
