package cloister.spec.vmx;

/// Interruption-information words: VM-entry, VM-exit and IDT-vectoring share the layout. [SDM Vol. 3 "VM-Exit
/// Interruption Information"]
public final class Interruption {
    public static final int EXTERNAL = 0;
    public static final int NMI = 2;
    public static final int HARDWARE_EXCEPTION = 3;
    public static final int SOFTWARE_INTERRUPT = 4;
    public static final int PRIVILEGED_SOFTWARE_EXCEPTION = 5;
    public static final int SOFTWARE_EXCEPTION = 6;
    public static final int OTHER_EVENT = 7;

    public static final int DELIVER_ERROR_CODE = 1 << 11;
    public static final int NMI_UNBLOCKING = 1 << 12;
    public static final int VALID = 1 << 31;

    private Interruption() {
    }

    /// The vector, bits 7:0.
    public static int vector(int info) {
        return info & 0xff;
    }

    /// The type of event, bits 10:8.
    public static int type(int info) {
        return (info >>> 8) & 7;
    }

    /// Whether there is an event.
    public static boolean valid(int info) {
        return info < 0;
    }
}
