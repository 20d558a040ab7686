package cloister.spec.vmx;

/// Guest activity and interruptibility state. [SDM Vol. 3 "Guest Non-Register State"]
public final class GuestActivity {
    public static final int ACTIVE = 0;
    public static final int HLT = 1;
    public static final int SHUTDOWN = 2;
    public static final int WAIT_FOR_SIPI = 3;

    public static final int BLOCKING_BY_STI = 1;
    public static final int BLOCKING_BY_MOV_SS = 1 << 1;
    public static final int BLOCKING_BY_SMI = 1 << 2;
    public static final int BLOCKING_BY_NMI = 1 << 3;
    public static final int ENCLAVE_INTERRUPTION = 1 << 4;

    // Pending debug exceptions
    public static final long PENDING_B0_B3 = 0xf;
    public static final long PENDING_BUS_LOCK = 1 << 11;
    public static final long PENDING_ENABLED_BREAKPOINT = 1 << 12;
    public static final long PENDING_BS = 1 << 14;
    public static final long PENDING_RTM = 1 << 16;

    private GuestActivity() {
    }
}
