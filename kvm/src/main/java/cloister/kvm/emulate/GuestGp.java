package cloister.kvm.emulate;

import cloister.spec.kvm.KvmAbi;

/// An emulated access that the guest sees as #GP(0), unless the VMM wants to answer it. Stackless.
public final class GuestGp extends RuntimeException {
    private static final long serialVersionUID = 1L;
    /// What is accessed does not allow it.
    public static final GuestGp INSTANCE = new GuestGp(KvmAbi.MSR_EXIT_REASON_INVAL);
    /// KVM does not know the MSR. [LINUX KVM_MSR_RET_UNSUPPORTED]
    public static final GuestGp UNKNOWN_MSR = new GuestGp(KvmAbi.MSR_EXIT_REASON_UNKNOWN);

    private final int msrReason;

    private GuestGp(int msrReason) {
        super(null, null, false, false);
        this.msrReason = msrReason;
    }

    /// Of an access to an MSR, which MSR_EXIT_REASON_ bit of [KvmAbi] it is. [LINUX kvm_msr_reason]
    public int msrReason() {
        return msrReason;
    }
}
