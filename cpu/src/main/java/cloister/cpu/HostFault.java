package cloister.cpu;

/// An exception that an instruction of the host raised: a Java host sees it where a real one would take a fault and look
/// into its exception tables. Stackless.
public final class HostFault extends RuntimeException {
    private static final long serialVersionUID = 1L;

    public HostFault(int vector, int errorCode) {
        super("host exception " + vector + " (" + Integer.toHexString(errorCode) + ")", null, false, false);
    }
}
