package cloister.tdx.core;

import cloister.memory.PhysicalMemory;

/// TDVPS, the control structure of a VCPU: the TDVPR page and its TDCX pages, of the TD's KeyID. [TDX-ABI "TDVPS"]
public final class Tdvps extends Structure {
    public static final int MIN_PAGES = 6;
    public static final int MAX_PAGES = 15;
    private static final int VMCS_PAGE = 1;
    static final int VAPIC_PAGE = 2;
    public static final int PAGES_PER_L2_VM = 3;
    public static final int NO_LP = -1;

    public static final int VE_EXIT_REASON = 0x0;
    public static final int VE_VALID = 0x4;
    public static final int VE_QUALIFICATION = 0x8;
    public static final int VE_GLA = 0x10;
    public static final int VE_GPA = 0x18;
    public static final int VE_EPTP_INDEX = 0x20;
    public static final int VE_INSTRUCTION_LENGTH = 0x24;
    public static final int VE_INSTRUCTION_INFO = 0x28;
    public static final int STATE = 0x100;
    public static final int LAST_TD_EXIT = 0x101;
    public static final int VCPU_INDEX = 0x102;
    public static final int NUM_PAGES = 0x107;
    public static final int PAGE_PA = 0x108;
    public static final int ASSOC_LPID = 0x1c8;
    public static final int VCPU_EPOCH = 0x1d0;
    public static final int CPUID_SUPERVISOR_VE = 0x1d8;
    public static final int CPUID_USER_VE = 0x1d9;
    public static final int LAST_EXIT_TSC = 0x1e0;
    public static final int PEND_NMI = 0x1e8;
    public static final int NMI_UNBLOCKING_DUE_TO_IRET = 0x1e9;
    public static final int XFAM = 0x1f0;
    public static final int LAST_EPF_GPA_LIST_IDX = 0x1f8;
    public static final int POSSIBLY_EPF_STEPPING = 0x1f9;
    public static final int HP_LOCK_BUSY_START = 0x200;
    public static final int HP_LOCK_BUSY = 0x208;
    static final int LAST_SEAMDB_INDEX = 0x20e;
    private static final int CURR_VM = 0x216;
    public static final int VM_LAUNCHED = 0x21a;
    public static final int LP_DEPENDENT_HPA_UPDATED = 0x21e;
    public static final int MODULE_DEPENDENT_HPA_UPDATED = 0x222;
    static final int L2_CTLS = 0x228;
    public static final int L2_DEBUG_CTLS = 0x248;
    public static final int TSC_DEADLINE = 0x268;
    static final int SHADOW_TSC_DEADLINE = 0x288;
    public static final int BASE_L2_CR0_GUEST_HOST_MASK = 0x2a8;
    public static final int BASE_L2_CR0_READ_SHADOW = 0x2b0;
    public static final int BASE_L2_CR4_GUEST_HOST_MASK = 0x2b8;
    public static final int BASE_L2_CR4_READ_SHADOW = 0x2c0;
    static final int SHADOW_CR0_GUEST_HOST_MASK = 0x2c8;
    static final int SHADOW_CR0_READ_SHADOW = 0x2e8;
    static final int SHADOW_CR4_GUEST_HOST_MASK = 0x308;
    static final int SHADOW_CR4_READ_SHADOW = 0x328;
    public static final int SHADOW_PID_HPA = 0x358;
    public static final int SHADOW_PINBASED_EXEC_CTLS = 0x378;
    static final int SHADOW_PLE_GAP = 0x388;
    static final int SHADOW_PLE_WINDOW = 0x398;
    public static final int SHADOW_POSTED_INT_NOTIFICATION_VECTOR = 0x3a8;
    public static final int SHADOW_PROCBASED_EXEC_CTLS2 = 0x3b0;
    public static final int SHADOW_SHARED_EPTP = 0x3c0;
    public static final int L2_ENTER_GUEST_STATE_GPA = 0x3e0;
    public static final int L2_ENTER_GUEST_STATE_HPA = 0x400;
    public static final int L2_VAPIC_GPA = 0x460;
    public static final int L2_VAPIC_HPA = 0x480;
    public static final int LAST_EPF_GPA_LIST = 0x700;
    public static final int CPUID_CONTROL = 0x900;
    private static final int GPR = 0x980;
    public static final int DR0 = 0xa00;
    public static final int DR6 = 0xa20;
    public static final int XCR0 = 0xa28;
    public static final int CR2 = 0xa30;
    public static final int SPEC_CTRL = 0xa80;
    public static final int UMWAIT_CONTROL = 0xa88;
    public static final int TSX_CTRL = 0xa90;
    public static final int PERFEVTSEL = 0xa98;
    public static final int OFFCORE_RSP = 0xad8;
    public static final int XFD = 0xae8;
    public static final int XFD_ERR = 0xaf0;
    public static final int FIXED_CTR = 0xaf8;
    public static final int PERF_METRICS = 0xb30;
    public static final int FIXED_CTR_CTRL = 0xb38;
    public static final int PERF_GLOBAL_STATUS = 0xb40;
    public static final int PEBS_ENABLE = 0xb48;
    public static final int PEBS_DATA_CFG = 0xb50;
    public static final int PEBS_LD_LAT = 0xb58;
    public static final int PEBS_FRONTEND = 0xb60;
    public static final int A_PMC = 0xb68;
    public static final int DS_AREA = 0xba8;
    public static final int XSS = 0xc70;
    public static final int LBR_DEPTH = 0xc78;
    public static final int UARCH_MISC_CTL = 0xc80;
    public static final int STAR = 0xc88;
    public static final int LSTAR = 0xc90;
    public static final int FMASK = 0xc98;
    public static final int KERNEL_GS_BASE = 0xca0;
    public static final int TSC_AUX = 0xca8;
    public static final int VAPIC_PPR = 0x20a0;

    // VCPU states. [TDX-BASE "VCPU State Machine"]
    public static final int UNINITIALIZED = 0;
    public static final int READY = 2;
    public static final int ACTIVE = 4;
    public static final int DISABLED = 8;

    // Kinds of the last TD exit.
    public static final int ASYNC_FAULT = 0;
    public static final int ASYNC_TRAP = 1;
    public static final int TDVMCALL = 2;

    public final long tdvprPa;

    private Tdvps(PhysicalMemory memory, long tdvprPa, long[] pages) {
        super(memory, pages);
        this.tdvprPa = tdvprPa;
    }

    /// Only the TDVPR page.
    public static Tdvps rootOnly(PhysicalMemory memory, long tdvprPa, int keyId) {
        return new Tdvps(memory, tdvprPa, new long[] {PhysicalMemory.hpa(tdvprPa, keyId)});
    }

    /// All pages, or null when there are fewer than a TD with `l2Vms` L2 VMs needs.
    public static Tdvps whole(PhysicalMemory memory, long tdvprPa, int keyId, int l2Vms) {
        var root = rootOnly(memory, tdvprPa, keyId);
        int needed = MIN_PAGES + l2Vms * PAGES_PER_L2_VM;
        if (root.u8(NUM_PAGES) < needed) {
            return null;
        }
        var pages = new long[needed];
        pages[0] = root.pages[0];
        for (int i = 1; i < needed; i++) {
            pages[i] = root.u64(PAGE_PA + 8 * i);
        }
        return new Tdvps(memory, tdvprPa, pages);
    }

    /// The position of the VMCS page of VM `vm`, 0 the TD itself; an L2 VM's MSR bitmaps follow it.
    public static int vmcsPage(int vm) {
        return vm == 0 ? VMCS_PAGE : MIN_PAGES + (vm - 1) * PAGES_PER_L2_VM;
    }

    public int state() {
        return u8(STATE);
    }

    public int index() {
        return u32(VCPU_INDEX);
    }

    public int currentVm() {
        return u16(CURR_VM);
    }

    public long gpr(int index) {
        return u64(GPR + 8 * index);
    }

    public void gpr(int index, long value) {
        u64(GPR + 8 * index, value);
    }

    public long xfam() {
        return u64(XFAM);
    }

    public boolean veInfoValid() {
        return u32(VE_VALID) != 0;
    }

    public boolean pendNmi() {
        return flag(PEND_NMI);
    }
}
