package cloister.kvm.vcpu;

import cloister.kvm.GuestMemfd;
import cloister.kvm.mmu.DirtyLog;
import cloister.kvm.mmu.DirtyRing;
import cloister.kvm.mmu.MemSlots;
import cloister.spec.kvm.KvmAbi;
import cloister.spec.kvm.KvmCap;
import java.util.function.LongSupplier;

/// KVM_CHECK_EXTENSION of the system file descriptor. [LINUX kvm_vm_ioctl_check_extension]
public final class Extensions {
    private final LongSupplier vmTypes;

    /// @param vmTypes a bit for each type of VM that can be created, by its number
    public Extensions(LongSupplier vmTypes) {
        this.vmTypes = vmTypes;
    }

    /// What the capability is worth, 0 when there is none.
    public long of(KvmCap cap) {
        return switch (cap) {
            case MAX_VCPUS -> Vm.MAX_VCPUS;
            case MAX_VCPU_ID -> Vm.MAX_VCPU_IDS;
            case SPLIT_IRQCHIP, USER_MEMORY2, MEMORY_FAULT_INFO, PRE_FAULT_MEMORY, X86_APIC_BUS_CYCLES_NS -> 1;
            case X2APIC_API -> 3;
            case EXIT_HYPERCALL -> 1L << KvmAbi.HC_MAP_GPA_RANGE;
            case VM_TYPES -> vmTypes.getAsLong();
            case MEMORY_ATTRIBUTES -> KvmAbi.MEMORY_ATTRIBUTE_PRIVATE;
            case GUEST_MEMFD -> 1;
            case GUEST_MEMFD_FLAGS -> GuestMemfd.FLAG_MMAP | GuestMemfd.FLAG_INIT_SHARED;
            case NR_MEMSLOTS -> MemSlots.USER_SLOTS;
            case MULTI_ADDRESS_SPACE -> 2;
            case READONLY_MEM -> 1;
            case MANUAL_DIRTY_LOG_PROTECT2 -> DirtyLog.MANUAL_PROTECT | DirtyLog.INITIALLY_SET;
            case DIRTY_LOG_RING, DIRTY_LOG_RING_ACQ_REL -> (long) DirtyRing.MAX_ENTRIES * DirtyRing.ENTRY_SIZE;
            case X86_USER_SPACE_MSR -> 0;
        };
    }
}
