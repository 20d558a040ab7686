package cloister.memory;

/// A private KeyID read a line that it does not own: the memory controller returns poison, which the consumer turns into
/// a machine check. Stackless, because a hostile host can cause it at will.
public final class Poison extends RuntimeException {
    private static final long serialVersionUID = 1L;
    private final long hpa;

    Poison(long hpa) {
        super("integrity violation at 0x" + Long.toHexString(hpa), null, false, false);
        this.hpa = hpa;
    }

    /// The address with its KeyID.
    public long hpa() {
        return hpa;
    }
}
