package cloister.kvm.emulate;

import cloister.spec.x86.ExceptionVector;

/// An exception that an emulated instruction raises; nothing of the instruction has happened. Stackless, one per machine: filled in
/// and thrown again.
public final class GuestException extends RuntimeException {
    private static final long serialVersionUID = 1L;

    private int vector;
    private int errorCode;
    private long address;

    /// One to be filled in.
    public GuestException() {
        super(null, null, false, false);
    }

    /// Fills it in.
    public GuestException of(int newVector, int newErrorCode) {
        vector = newVector;
        errorCode = newErrorCode;
        address = 0;
        return this;
    }

    /// A page fault at `linear`, which CR2 gets.
    public GuestException pageFault(int newErrorCode, long linear) {
        of(ExceptionVector.PF, newErrorCode);
        address = linear;
        return this;
    }

    void copy(GuestException other) {
        vector = other.vector;
        errorCode = other.errorCode;
        address = other.address;
    }

    public int vector() {
        return vector;
    }

    public int errorCode() {
        return errorCode;
    }

    /// The address of a page fault.
    public long address() {
        return address;
    }
}
