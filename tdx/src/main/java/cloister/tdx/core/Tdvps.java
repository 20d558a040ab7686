package cloister.tdx.core;

import cloister.memory.PhysicalMemory;

/// TDVPS, the control structure of a VCPU: the TDVPR page and its TDCX pages, of the TD's KeyID. [TDX-ABI "TDVPS"]
final class Tdvps extends Structure {
    static final int MIN_PAGES = 6;
    static final int MAX_PAGES = 15;
    static final int VMCS_PAGE = 1;
    static final int VAPIC_PAGE = 2;
    static final int PAGES_PER_L2_VM = 3;
    static final int NO_LP = -1;

    static final int VE_EXIT_REASON = 0x0;
    static final int VE_VALID = 0x4;
    static final int VE_QUALIFICATION = 0x8;
    static final int VE_GLA = 0x10;
    static final int VE_GPA = 0x18;
    static final int VE_EPTP_INDEX = 0x20;
    static final int VE_INSTRUCTION_LENGTH = 0x24;
    static final int VE_INSTRUCTION_INFO = 0x28;
    static final int STATE = 0x100;
    static final int LAST_TD_EXIT = 0x101;
    static final int VCPU_INDEX = 0x102;
    static final int NUM_PAGES = 0x107;
    static final int PAGE_PA = 0x108;
    static final int ASSOC_LPID = 0x1c8;
    static final int VCPU_EPOCH = 0x1d0;
    static final int CPUID_SUPERVISOR_VE = 0x1d8;
    static final int CPUID_USER_VE = 0x1d9;
    static final int LAST_EXIT_TSC = 0x1e0;
    static final int PEND_NMI = 0x1e8;
    static final int NMI_UNBLOCKING_DUE_TO_IRET = 0x1e9;
    static final int XFAM = 0x1f0;
    static final int LAST_EPF_GPA_LIST_IDX = 0x1f8;
    static final int POSSIBLY_EPF_STEPPING = 0x1f9;
    static final int HP_LOCK_BUSY_START = 0x200;
    static final int HP_LOCK_BUSY = 0x208;
    static final int LAST_SEAMDB_INDEX = 0x20e;
    static final int CURR_VM = 0x216;
    static final int VM_LAUNCHED = 0x21a;
    static final int LP_DEPENDENT_HPA_UPDATED = 0x21e;
    static final int MODULE_DEPENDENT_HPA_UPDATED = 0x222;
    static final int L2_CTLS = 0x228;
    static final int TSC_DEADLINE = 0x268;
    static final int SHADOW_TSC_DEADLINE = 0x288;
    static final int BASE_L2_CR0_GUEST_HOST_MASK = 0x2a8;
    static final int BASE_L2_CR0_READ_SHADOW = 0x2b0;
    static final int BASE_L2_CR4_GUEST_HOST_MASK = 0x2b8;
    static final int BASE_L2_CR4_READ_SHADOW = 0x2c0;
    static final int SHADOW_CR0_GUEST_HOST_MASK = 0x2c8;
    static final int SHADOW_CR0_READ_SHADOW = 0x2e8;
    static final int SHADOW_CR4_GUEST_HOST_MASK = 0x308;
    static final int SHADOW_CR4_READ_SHADOW = 0x328;
    static final int SHADOW_PID_HPA = 0x358;
    static final int SHADOW_PINBASED_EXEC_CTLS = 0x378;
    static final int SHADOW_PLE_GAP = 0x388;
    static final int SHADOW_PLE_WINDOW = 0x398;
    static final int SHADOW_POSTED_INT_NOTIFICATION_VECTOR = 0x3a8;
    static final int SHADOW_PROCBASED_EXEC_CTLS2 = 0x3b0;
    static final int SHADOW_SHARED_EPTP = 0x3c0;
    static final int L2_ENTER_GUEST_STATE_GPA = 0x3e0;
    static final int L2_ENTER_GUEST_STATE_HPA = 0x400;
    static final int L2_VAPIC_GPA = 0x460;
    static final int L2_VAPIC_HPA = 0x480;
    static final int LAST_EPF_GPA_LIST = 0x700;
    static final int CPUID_CONTROL = 0x900;
    static final int GPR = 0x980;
    static final int DR0 = 0xa00;
    static final int DR6 = 0xa20;
    static final int XCR0 = 0xa28;
    static final int CR2 = 0xa30;
    static final int SPEC_CTRL = 0xa80;
    static final int UMWAIT_CONTROL = 0xa88;
    static final int TSX_CTRL = 0xa90;
    static final int PERFEVTSEL = 0xa98;
    static final int OFFCORE_RSP = 0xad8;
    static final int XFD = 0xae8;
    static final int XFD_ERR = 0xaf0;
    static final int FIXED_CTR = 0xaf8;
    static final int PERF_METRICS = 0xb30;
    static final int FIXED_CTR_CTRL = 0xb38;
    static final int PERF_GLOBAL_STATUS = 0xb40;
    static final int PEBS_ENABLE = 0xb48;
    static final int PEBS_DATA_CFG = 0xb50;
    static final int PEBS_LD_LAT = 0xb58;
    static final int PEBS_FRONTEND = 0xb60;
    static final int A_PMC = 0xb68;
    static final int DS_AREA = 0xba8;
    static final int XSS = 0xc70;
    static final int LBR_DEPTH = 0xc78;
    static final int UARCH_MISC_CTL = 0xc80;
    static final int STAR = 0xc88;
    static final int LSTAR = 0xc90;
    static final int FMASK = 0xc98;
    static final int KERNEL_GS_BASE = 0xca0;
    static final int TSC_AUX = 0xca8;
    static final int VAPIC_PPR = 0x20a0;
    static final int XBUFF_XSTATE_BV = 0x3200;
    static final int XBUFF_XCOMP_BV = 0x3208;

    // VCPU states. [TDX-BASE "VCPU State Machine"]
    static final int UNINITIALIZED = 0;
    static final int READY = 2;
    static final int ACTIVE = 4;
    static final int DISABLED = 8;

    // Kinds of the last TD exit.
    static final int ASYNC_FAULT = 0;
    static final int ASYNC_TRAP = 1;
    static final int TDVMCALL = 2;

    final long tdvprPa;

    private Tdvps(PhysicalMemory memory, long tdvprPa, long[] pages) {
        super(memory, pages);
        this.tdvprPa = tdvprPa;
    }

    /// Only the TDVPR page.
    static Tdvps rootOnly(PhysicalMemory memory, long tdvprPa, int keyId) {
        return new Tdvps(memory, tdvprPa, new long[] {PhysicalMemory.hpa(tdvprPa, keyId)});
    }

    /// All pages, or null when there are fewer than a TD with `l2Vms` L2 VMs needs.
    static Tdvps whole(PhysicalMemory memory, long tdvprPa, int keyId, int l2Vms) {
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
    static int vmcsPage(int vm) {
        return vm == 0 ? VMCS_PAGE : MIN_PAGES + (vm - 1) * PAGES_PER_L2_VM;
    }

    int state() {
        return u8(STATE);
    }

    int index() {
        return u32(VCPU_INDEX);
    }

    int currentVm() {
        return u16(CURR_VM);
    }

    long gpr(int index) {
        return u64(GPR + 8 * index);
    }

    void gpr(int index, long value) {
        u64(GPR + 8 * index, value);
    }

    long xfam() {
        return u64(XFAM);
    }

    boolean veInfoValid() {
        return u32(VE_VALID) != 0;
    }

    boolean pendNmi() {
        return flag(PEND_NMI);
    }
}
