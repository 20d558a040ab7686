package cloister.kvm;

import cloister.spec.kvm.Errno;

/// A uAPI call failed with an error number.
public final class KvmException extends RuntimeException {
    private static final long serialVersionUID = 1L;
    private final Errno errno;

    /// @param text what was wrong, for people; the error number is the contract
    public KvmException(Errno errno, String text) {
        super(errno + ": " + text);
        this.errno = errno;
    }

    /// The error number that the ioctl would return, negated.
    public Errno errno() {
        return errno;
    }
}
