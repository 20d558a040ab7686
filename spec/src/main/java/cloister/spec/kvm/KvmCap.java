package cloister.spec.kvm;

/// The capabilities that KVM_CHECK_EXTENSION and KVM_ENABLE_CAP name. [LINUX include/uapi/linux/kvm.h]
public enum KvmCap {
    NR_MEMSLOTS(10), READONLY_MEM(81), MULTI_ADDRESS_SPACE(118), MANUAL_DIRTY_LOG_PROTECT2(168), DIRTY_LOG_RING(192),
    DIRTY_LOG_RING_ACQ_REL(223), GUEST_MEMFD_FLAGS(244),
    MAX_VCPUS(66), DISABLE_QUIRKS(116), DISABLE_QUIRKS2(213), SPLIT_IRQCHIP(121), MAX_VCPU_ID(128),
    X2APIC_API(129), X86_USER_SPACE_MSR(188), EXIT_HYPERCALL(201),
    USER_MEMORY2(231), MEMORY_FAULT_INFO(232), MEMORY_ATTRIBUTES(233), GUEST_MEMFD(234), VM_TYPES(235),
    PRE_FAULT_MEMORY(236), X86_APIC_BUS_CYCLES_NS(237);

    private final int number;

    KvmCap(int number) {
        this.number = number;
    }

    /// The value of the ABI.
    public int number() {
        return number;
    }
}
