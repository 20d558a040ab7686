package cloister.spec.vmx;

/// Bits of the VM-execution, VM-exit and VM-entry controls. [SDM Vol. 3 "VM-Execution Control Fields", "VM-Exit Controls",
/// "VM-Entry Controls"]
public final class Controls {
    // Pin-based VM-execution controls
    public static final int PIN_EXTERNAL_INTERRUPT_EXITING = 1;
    public static final int PIN_NMI_EXITING = 1 << 3;
    public static final int PIN_VIRTUAL_NMIS = 1 << 5;
    public static final int PIN_PREEMPTION_TIMER = 1 << 6;
    public static final int PIN_POSTED_INTERRUPTS = 1 << 7;
    /// Bits that are always 1.
    public static final int PIN_DEFAULT1 = 0x16;

    // Primary processor-based VM-execution controls
    public static final int PROC_INTERRUPT_WINDOW = 1 << 2;
    public static final int PROC_TSC_OFFSETTING = 1 << 3;
    public static final int PROC_HLT_EXITING = 1 << 7;
    public static final int PROC_INVLPG_EXITING = 1 << 9;
    public static final int PROC_MWAIT_EXITING = 1 << 10;
    public static final int PROC_RDPMC_EXITING = 1 << 11;
    public static final int PROC_RDTSC_EXITING = 1 << 12;
    public static final int PROC_CR3_LOAD_EXITING = 1 << 15;
    public static final int PROC_CR3_STORE_EXITING = 1 << 16;
    public static final int PROC_TERTIARY_CONTROLS = 1 << 17;
    public static final int PROC_CR8_LOAD_EXITING = 1 << 19;
    public static final int PROC_CR8_STORE_EXITING = 1 << 20;
    public static final int PROC_TPR_SHADOW = 1 << 21;
    public static final int PROC_NMI_WINDOW = 1 << 22;
    public static final int PROC_MOV_DR_EXITING = 1 << 23;
    public static final int PROC_UNCONDITIONAL_IO_EXITING = 1 << 24;
    public static final int PROC_IO_BITMAPS = 1 << 25;
    public static final int PROC_MONITOR_TRAP_FLAG = 1 << 27;
    public static final int PROC_MSR_BITMAPS = 1 << 28;
    public static final int PROC_MONITOR_EXITING = 1 << 29;
    public static final int PROC_PAUSE_EXITING = 1 << 30;
    public static final int PROC_SECONDARY_CONTROLS = 1 << 31;
    /// Bits that are 1 unless the "true" capability MSRs allow 0 (CR3 load and store exiting).
    public static final int PROC_DEFAULT1 = 0x0401e172;

    // Secondary processor-based VM-execution controls
    public static final int PROC2_VIRTUALIZE_APIC_ACCESSES = 1;
    public static final int PROC2_ENABLE_EPT = 1 << 1;
    public static final int PROC2_DESCRIPTOR_TABLE_EXITING = 1 << 2;
    public static final int PROC2_ENABLE_RDTSCP = 1 << 3;
    public static final int PROC2_VIRTUALIZE_X2APIC_MODE = 1 << 4;
    public static final int PROC2_ENABLE_VPID = 1 << 5;
    public static final int PROC2_WBINVD_EXITING = 1 << 6;
    public static final int PROC2_UNRESTRICTED_GUEST = 1 << 7;
    public static final int PROC2_APIC_REGISTER_VIRTUALIZATION = 1 << 8;
    public static final int PROC2_VIRTUAL_INTERRUPT_DELIVERY = 1 << 9;
    public static final int PROC2_PAUSE_LOOP_EXITING = 1 << 10;
    public static final int PROC2_RDRAND_EXITING = 1 << 11;
    public static final int PROC2_ENABLE_INVPCID = 1 << 12;
    public static final int PROC2_ENABLE_VM_FUNCTIONS = 1 << 13;
    public static final int PROC2_VMCS_SHADOWING = 1 << 14;
    public static final int PROC2_ENCLS_EXITING = 1 << 15;
    public static final int PROC2_RDSEED_EXITING = 1 << 16;
    public static final int PROC2_ENABLE_PML = 1 << 17;
    public static final int PROC2_EPT_VIOLATION_VE = 1 << 18;
    public static final int PROC2_CONCEAL_VMX_FROM_PT = 1 << 19;
    public static final int PROC2_ENABLE_XSAVES = 1 << 20;
    public static final int PROC2_PASID_TRANSLATION = 1 << 21;
    public static final int PROC2_MODE_BASED_EXECUTE = 1 << 22;
    public static final int PROC2_SUB_PAGE_WRITE = 1 << 23;
    public static final int PROC2_PT_GUEST_PHYSICAL = 1 << 24;
    public static final int PROC2_TSC_SCALING = 1 << 25;
    public static final int PROC2_ENABLE_USER_WAIT_PAUSE = 1 << 26;
    public static final int PROC2_ENABLE_PCONFIG = 1 << 27;
    public static final int PROC2_ENCLV_EXITING = 1 << 28;
    public static final int PROC2_BUS_LOCK_DETECTION = 1 << 30;
    public static final int PROC2_NOTIFICATION_EXITING = 1 << 31;

    // Tertiary processor-based VM-execution controls (64 bits)
    public static final long PROC3_LOADIWKEY_EXITING = 1;
    public static final long PROC3_ENABLE_HLAT = 1 << 1;
    public static final long PROC3_EPT_PAGING_WRITE = 1 << 2;
    public static final long PROC3_GUEST_PAGING_VERIFICATION = 1 << 3;
    public static final long PROC3_IPI_VIRTUALIZATION = 1 << 4;
    public static final long PROC3_VIRTUALIZE_SPEC_CTRL = 1 << 7;

    // VM-exit controls
    public static final int EXIT_SAVE_DEBUG_CONTROLS = 1 << 2;
    public static final int EXIT_HOST_ADDRESS_SPACE_SIZE = 1 << 9;
    public static final int EXIT_LOAD_PERF_GLOBAL_CTRL = 1 << 12;
    public static final int EXIT_ACKNOWLEDGE_INTERRUPT = 1 << 15;
    public static final int EXIT_SAVE_PAT = 1 << 18;
    public static final int EXIT_LOAD_PAT = 1 << 19;
    public static final int EXIT_SAVE_EFER = 1 << 20;
    public static final int EXIT_LOAD_EFER = 1 << 21;
    public static final int EXIT_SAVE_PREEMPTION_TIMER = 1 << 22;
    public static final int EXIT_CLEAR_BNDCFGS = 1 << 23;
    public static final int EXIT_CONCEAL_VMX_FROM_PT = 1 << 24;
    public static final int EXIT_CLEAR_RTIT_CTL = 1 << 25;
    public static final int EXIT_CLEAR_LBR_CTL = 1 << 26;
    public static final int EXIT_LOAD_CET_STATE = 1 << 28;
    public static final int EXIT_LOAD_PKRS = 1 << 29;
    public static final int EXIT_SAVE_PERF_GLOBAL_CTRL = 1 << 30;
    public static final int EXIT_SECONDARY_CONTROLS = 1 << 31;
    public static final int EXIT_DEFAULT1 = 0x00036dff;

    // VM-entry controls
    public static final int ENTRY_LOAD_DEBUG_CONTROLS = 1 << 2;
    public static final int ENTRY_IA32E_MODE_GUEST = 1 << 9;
    public static final int ENTRY_TO_SMM = 1 << 10;
    public static final int ENTRY_DEACTIVATE_DUAL_MONITOR = 1 << 11;
    public static final int ENTRY_LOAD_PERF_GLOBAL_CTRL = 1 << 13;
    public static final int ENTRY_LOAD_PAT = 1 << 14;
    public static final int ENTRY_LOAD_EFER = 1 << 15;
    public static final int ENTRY_LOAD_BNDCFGS = 1 << 16;
    public static final int ENTRY_CONCEAL_VMX_FROM_PT = 1 << 17;
    public static final int ENTRY_LOAD_RTIT_CTL = 1 << 18;
    public static final int ENTRY_LOAD_UINV = 1 << 19;
    public static final int ENTRY_LOAD_CET_STATE = 1 << 20;
    public static final int ENTRY_LOAD_LBR_CTL = 1 << 21;
    public static final int ENTRY_LOAD_PKRS = 1 << 22;
    public static final int ENTRY_DEFAULT1 = 0x000011ff;

    private Controls() {
    }
}
