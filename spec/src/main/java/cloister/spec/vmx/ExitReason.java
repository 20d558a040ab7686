package cloister.spec.vmx;

/// Basic VM-exit reasons, bits 15:0 of the exit-reason field. [SDM Vol. 3 "VMX Basic Exit Reasons"] 76 and 77 exist only
/// for SEAM.
public final class ExitReason {
    public static final int EXCEPTION_OR_NMI = 0;
    public static final int EXTERNAL_INTERRUPT = 1;
    public static final int TRIPLE_FAULT = 2;
    public static final int INIT = 3;
    public static final int SIPI = 4;
    public static final int IO_SMI = 5;
    public static final int OTHER_SMI = 6;
    public static final int INTERRUPT_WINDOW = 7;
    public static final int NMI_WINDOW = 8;
    public static final int TASK_SWITCH = 9;
    public static final int CPUID = 10;
    public static final int GETSEC = 11;
    public static final int HLT = 12;
    public static final int INVD = 13;
    public static final int INVLPG = 14;
    public static final int RDPMC = 15;
    public static final int RDTSC = 16;
    public static final int RSM = 17;
    public static final int VMCALL = 18;
    public static final int VMCLEAR = 19;
    public static final int VMLAUNCH = 20;
    public static final int VMPTRLD = 21;
    public static final int VMPTRST = 22;
    public static final int VMREAD = 23;
    public static final int VMRESUME = 24;
    public static final int VMWRITE = 25;
    public static final int VMXOFF = 26;
    public static final int VMXON = 27;
    public static final int CR_ACCESS = 28;
    public static final int MOV_DR = 29;
    public static final int IO_INSTRUCTION = 30;
    public static final int RDMSR = 31;
    public static final int WRMSR = 32;
    public static final int INVALID_GUEST_STATE = 33;
    public static final int MSR_LOADING = 34;
    public static final int MWAIT = 36;
    public static final int MONITOR_TRAP_FLAG = 37;
    public static final int MONITOR = 39;
    public static final int PAUSE = 40;
    public static final int MACHINE_CHECK_DURING_ENTRY = 41;
    public static final int TPR_BELOW_THRESHOLD = 43;
    public static final int APIC_ACCESS = 44;
    public static final int VIRTUALIZED_EOI = 45;
    public static final int GDTR_IDTR_ACCESS = 46;
    public static final int LDTR_TR_ACCESS = 47;
    public static final int EPT_VIOLATION = 48;
    public static final int EPT_MISCONFIGURATION = 49;
    public static final int INVEPT = 50;
    public static final int RDTSCP = 51;
    public static final int PREEMPTION_TIMER = 52;
    public static final int INVVPID = 53;
    public static final int WBINVD = 54;
    public static final int XSETBV = 55;
    public static final int APIC_WRITE = 56;
    public static final int RDRAND = 57;
    public static final int INVPCID = 58;
    public static final int VMFUNC = 59;
    public static final int ENCLS = 60;
    public static final int RDSEED = 61;
    public static final int PML_FULL = 62;
    public static final int XSAVES = 63;
    public static final int XRSTORS = 64;
    public static final int PCONFIG = 65;
    public static final int SPP_EVENT = 66;
    public static final int UMWAIT = 67;
    public static final int TPAUSE = 68;
    public static final int LOADIWKEY = 69;
    public static final int ENCLV = 70;
    public static final int ENQCMD_PASID = 72;
    public static final int ENQCMDS_PASID = 73;
    public static final int BUS_LOCK = 74;
    public static final int NOTIFY_WINDOW = 75;
    public static final int SEAMCALL = 76;
    public static final int TDCALL = 77;

    /// Bit 26 of the exit reason: a bus lock was detected as well.
    public static final int BUS_LOCK_DETECTED = 1 << 26;
    /// Bit 31 of the exit reason: VM entry failed, the guest never ran.
    public static final int ENTRY_FAILURE = 1 << 31;

    private static final String[] NAMES = {
        "EXCEPTION_NMI", "EXTERNAL_INTERRUPT", "TRIPLE_FAULT", "INIT", "SIPI", "IO_SMI", "OTHER_SMI", "INTERRUPT_WINDOW",
        "NMI_WINDOW", "TASK_SWITCH", "CPUID", "GETSEC", "HLT", "INVD", "INVLPG", "RDPMC", "RDTSC", "RSM", "VMCALL", "VMCLEAR",
        "VMLAUNCH", "VMPTRLD", "VMPTRST", "VMREAD", "VMRESUME", "VMWRITE", "VMXOFF", "VMXON", "CR_ACCESS", "MOV_DR",
        "IO_INSTRUCTION", "RDMSR", "WRMSR", "INVALID_GUEST_STATE", "MSR_LOADING", "35", "MWAIT", "MONITOR_TRAP_FLAG", "38",
        "MONITOR", "PAUSE", "MACHINE_CHECK_DURING_ENTRY", "42", "TPR_BELOW_THRESHOLD", "APIC_ACCESS", "VIRTUALIZED_EOI",
        "GDTR_IDTR_ACCESS", "LDTR_TR_ACCESS", "EPT_VIOLATION", "EPT_MISCONFIGURATION", "INVEPT", "RDTSCP", "PREEMPTION_TIMER",
        "INVVPID", "WBINVD", "XSETBV", "APIC_WRITE", "RDRAND", "INVPCID", "VMFUNC", "ENCLS", "RDSEED", "PML_FULL", "XSAVES",
        "XRSTORS", "PCONFIG", "SPP_EVENT", "UMWAIT", "TPAUSE", "LOADIWKEY", "ENCLV", "71", "ENQCMD_PASID", "ENQCMDS_PASID",
        "BUS_LOCK", "NOTIFY_WINDOW", "SEAMCALL", "TDCALL"};

    private ExitReason() {
    }

    /// The basic reason, bits 15:0.
    public static int basic(int exitReason) {
        return exitReason & 0xffff;
    }

    /// The name of a basic reason, for traces; numbers without a name stay numbers.
    public static String name(int exitReason) {
        int basic = basic(exitReason);
        return basic < NAMES.length ? NAMES[basic] : Integer.toString(basic);
    }
}
