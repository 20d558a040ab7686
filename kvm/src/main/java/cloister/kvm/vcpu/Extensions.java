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
    private final boolean selfSnoop;
    private final boolean ept;

    /// @param vmTypes   a bit for each type of VM that can be created, by its number
    /// @param selfSnoop whether the processor snoops its own caches, so that memory with two types at once stays right
    /// @param ept       whether page tables are indexed by guest-physical addresses, which can be populated ahead then
    public Extensions(LongSupplier vmTypes, boolean selfSnoop, boolean ept) {
        this.vmTypes = vmTypes;
        this.ept = ept;
        this.selfSnoop = selfSnoop;
    }

    /// What the capability is worth, 0 when there is none.
    public long of(KvmCap cap) {
        return switch (cap) {
            case MAX_VCPUS -> Vm.MAX_VCPUS;
            case MAX_VCPU_ID -> Vm.MAX_VCPU_IDS;
            case SPLIT_IRQCHIP, USER_MEMORY2, MEMORY_FAULT_INFO, X86_APIC_BUS_CYCLES_NS -> 1;
            case PRE_FAULT_MEMORY -> ept ? 1 : 0;
            case X2APIC_API -> 3;
            case X86_USER_SPACE_MSR -> 1;
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
            case DISABLE_QUIRKS -> 1;
            case DISABLE_QUIRKS2 -> KvmAbi.QUIRK_CD_NW_CLEARED | KvmAbi.QUIRK_SLOT_ZAP_ALL
                    | (selfSnoop ? KvmAbi.QUIRK_IGNORE_GUEST_PAT : 0);
        };
    }
}
