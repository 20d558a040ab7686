package cloister.kvm.x86;

/// An emulated access that the guest sees as #GP(0). Stackless.
final class GuestGp extends RuntimeException {
    private static final long serialVersionUID = 1L;
    static final GuestGp INSTANCE = new GuestGp();

    private GuestGp() {
        super(null, null, false, false);
    }
}
