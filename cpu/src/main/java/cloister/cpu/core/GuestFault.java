package cloister.cpu.core;

/// An exception that the current instruction raises; RIP still points at it. Stackless, one instance per processor, filled in
/// by [Cpu#fault].
public final class GuestFault extends RuntimeException {
    private static final long serialVersionUID = 1L;

    /// The vector, see [cloister.spec.x86.ExceptionVector].
    public int vector;
    /// The error code, meaningful for vectors that have one.
    public int errorCode;
    /// For #PF the linear address (loaded into CR2 on delivery); for #DB the DR6 bits; else 0.
    public long address;

    GuestFault() {
        super(null, null, false, false);
    }
}
