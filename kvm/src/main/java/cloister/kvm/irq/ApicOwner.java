package cloister.kvm.irq;

/// What a local APIC needs of its vCPU.
public interface ApicOwner {
    /// The vCPU id: the initial APIC id.
    int id();

    /// Time as the guest's TSC tells it, and the offset of the guest's TSC from the platform's clock.
    long tscOffset();

    /// Something in the APIC may make an interrupt deliverable: look before the next entry, wake or kick the vCPU.
    void apicEvent();

    /// Whether interrupts are posted to hardware instead of injected.
    boolean postsInterrupts();

    /// Posts `vector` to the vCPU's posted-interrupt descriptor.
    void postInterrupt(int vector);

    /// The APIC was switched between disabled, xAPIC and x2APIC, or its logical destination changed.
    default void apicModeChanged() {
    }

    /// Another vCPU says that there is something to do.
    void unhalt();

    /// An NMI message arrived.
    void nmiMessage();

    /// An INIT message arrived.
    void init();

    /// A start-up message arrived.
    void startup(int vector);

    /// The guest ended a level-triggered interrupt.
    void levelEoi(int vector);
}
