package cloister.spec.vmx;

/// EPT pointers, EPT paging-structure entries and the virtualization-exception information area. [SDM Vol. 3 "The Extended
/// Page Table Mechanism (EPT)", "Virtualization Exceptions"]
public final class Ept {
    public static final long READ = 1;
    public static final long WRITE = 1 << 1;
    public static final long EXECUTE = 1 << 2;
    public static final long PERMISSIONS = READ | WRITE | EXECUTE;
    public static final int MEMORY_TYPE_SHIFT = 3;
    public static final long IGNORE_PAT = 1 << 6;
    /// The entry maps a large page.
    public static final long LARGE = 1 << 7;
    public static final long ACCESSED = 1 << 8;
    public static final long DIRTY = 1 << 9;
    public static final long USER_EXECUTE = 1 << 10;
    public static final long SUPPRESS_VE = 1L << 63;
    /// The address in an entry, KeyID included: bits 51:12.
    public static final long ADDRESS = 0x000f_ffff_ffff_f000L;

    public static final int TYPE_UC = 0;
    public static final int TYPE_WC = 1;
    public static final int TYPE_WT = 4;
    public static final int TYPE_WP = 5;
    public static final int TYPE_WB = 6;

    // EPT pointer: memory type 2:0, page-walk length - 1 in 5:3, A/D 6, supervisor shadow stack 7
    public static final long EPTP_ACCESSED_DIRTY = 1 << 6;
    public static final long EPTP_SHADOW_STACK = 1 << 7;

    // IA32_VMX_EPT_VPID_CAP
    public static final long CAPABILITY_5_LEVELS = 1 << 7;
    public static final long CAPABILITY_2M = 1 << 16;
    public static final long CAPABILITY_1G = 1 << 17;
    public static final long CAPABILITY_ACCESSED_DIRTY = 1 << 21;

    // INVEPT and INVVPID types
    public static final int INVEPT_SINGLE_CONTEXT = 1;
    public static final int INVEPT_ALL_CONTEXTS = 2;
    public static final int INVVPID_ADDRESS = 0;
    public static final int INVVPID_SINGLE_CONTEXT = 1;
    public static final int INVVPID_ALL_CONTEXTS = 2;
    public static final int INVVPID_RETAINING_GLOBALS = 3;

    // Offsets in the virtualization-exception information area
    public static final int VE_REASON = 0;
    public static final int VE_BUSY = 4;
    public static final int VE_QUALIFICATION = 8;
    public static final int VE_LINEAR_ADDRESS = 16;
    public static final int VE_PHYSICAL_ADDRESS = 24;
    public static final int VE_EPTP_INDEX = 32;

    private Ept() {
    }

    /// The page-walk length of an EPT pointer: 4 or 5 when valid.
    public static int levels(long eptp) {
        return (int) ((eptp >>> 3) & 7) + 1;
    }

    /// The memory type of a leaf entry.
    public static int memoryType(long entry) {
        return (int) ((entry >>> MEMORY_TYPE_SHIFT) & 7);
    }
}
