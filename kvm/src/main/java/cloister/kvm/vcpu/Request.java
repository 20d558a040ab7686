package cloister.kvm.vcpu;

/// What a vCPU must do before it enters the guest again; bits of a word, looked at in the order of the run loop. [LINUX
/// KVM_REQ_TLB_FLUSH ...]
public final class Request {
    /// The VM is dead: KVM_RUN fails.
    public static final int VM_DEAD = 1;
    /// Drop the translations of the guest-physical address space.
    public static final int TLB_FLUSH = 1 << 1;
    /// Something may be deliverable.
    public static final int EVENT = 1 << 2;
    /// Find out again which vectors' EOIs a userspace IOAPIC wants to hear of.
    public static final int SCAN_IOAPIC = 1 << 3;
    /// The guest ended such a vector.
    public static final int IOAPIC_EOI_EXIT = 1 << 4;
    /// Nothing to do but to leave guest mode.
    public static final int OUTSIDE_GUEST_MODE = 1 << 5;
    /// The loaded root is invalid. (KVM_REQ_MMU_FREE_OBSOLETE_ROOTS)
    public static final int MMU_RELOAD = 1 << 7;
    /// A triple fault: KVM_EXIT_SHUTDOWN.
    public static final int TRIPLE_FAULT = 1 << 6;

    /// An NMI came.
    public static final int NMI = 1 << 8;

    private Request() {
    }
}
