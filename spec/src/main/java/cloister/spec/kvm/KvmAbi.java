package cloister.spec.kvm;

/// Flag bits and numbers of the KVM uAPI. [LINUX include/uapi/linux/kvm.h, arch/x86/include/uapi/asm/kvm.h]
public final class KvmAbi {
    /// Memory slot flags.
    public static final int MEM_LOG_DIRTY_PAGES = 1;
    public static final int MEM_READONLY = 1 << 1;
    public static final int MEM_GUEST_MEMFD = 1 << 2;
    /// The flags that the first form of the ioctl knows. (KVM_SET_USER_MEMORY_REGION_V1_FLAGS)
    /// The least that KVM_SET_NR_MMU_PAGES takes.
    public static final int MIN_ALLOC_MMU_PAGES = 64;
    public static final int MEM_V1_FLAGS = MEM_LOG_DIRTY_PAGES | MEM_READONLY;

    /// KVM_MEMORY_ATTRIBUTE_PRIVATE.
    public static final long MEMORY_ATTRIBUTE_PRIVATE = 1L << 3;
    /// KVM_MEMORY_EXIT_FLAG_PRIVATE.
    public static final long MEMORY_EXIT_FLAG_PRIVATE = 1L << 3;

    /// KVM_CAP_X2APIC_API flags.
    public static final long X2APIC_API_USE_32BIT_IDS = 1;
    public static final long X2APIC_API_DISABLE_BROADCAST_QUIRK = 2;

    /// KVM_X86_QUIRK_ bits of KVM_CAP_DISABLE_QUIRKS2.
    public static final long QUIRK_CD_NW_CLEARED = 1 << 1;
    public static final long QUIRK_SLOT_ZAP_ALL = 1 << 7;
    public static final long QUIRK_IGNORE_GUEST_PAT = 1 << 9;

    /// KVM_DEV_TYPE_VFIO of KVM_CREATE_DEVICE, its group and attributes.
    public static final int DEV_TYPE_VFIO = 4;
    public static final int DEV_VFIO_FILE = 1;
    public static final long DEV_VFIO_FILE_ADD = 1;
    public static final long DEV_VFIO_FILE_DEL = 2;

    /// KVM_MSR_EXIT_REASON_: a value or an access that the MSR does not allow, an MSR that KVM does not know, one that a filter forbids.
    public static final int MSR_EXIT_REASON_INVAL = 1;
    public static final int MSR_EXIT_REASON_UNKNOWN = 1 << 1;
    public static final int MSR_EXIT_REASON_FILTER = 1 << 2;

    /// KVM_HC_MAP_GPA_RANGE, the hypercall, and its attribute bits.
    public static final int HC_MAP_GPA_RANGE = 12;
    public static final long MAP_GPA_RANGE_ENCRYPTED = 1L << 4;
    public static final long MAP_GPA_RANGE_DECRYPTED = 0;

    /// KVM_SYSTEM_EVENT types.
    public static final int SYSTEM_EVENT_SHUTDOWN = 1;
    public static final int SYSTEM_EVENT_RESET = 2;
    public static final int SYSTEM_EVENT_CRASH = 3;
    public static final int SYSTEM_EVENT_TDX_FATAL = 7;

    /// KVM_EXIT_INTERNAL_ERROR sub-errors.
    public static final int INTERNAL_ERROR_EMULATION = 1;
    /// In the first word of its data: the bytes of the instruction follow.
    public static final long INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES = 1;
    public static final int INTERNAL_ERROR_DELIVERY_EV = 3;
    public static final int INTERNAL_ERROR_UNEXPECTED_EXIT_REASON = 4;

    /// KVM_TDX_MEASURE_MEMORY_REGION.
    public static final int TDX_MEASURE_MEMORY_REGION = 1;

    private KvmAbi() {
    }
}
