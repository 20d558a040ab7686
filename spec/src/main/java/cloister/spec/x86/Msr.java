package cloister.spec.x86;

/// Numbers of model-specific registers. [SDM Vol. 4 "Architectural MSRs"]
public final class Msr {
    public static final int IA32_P5_MC_ADDR = 0x0;
    public static final int IA32_P5_MC_TYPE = 0x1;
    public static final int IA32_MONITOR_FILTER_SIZE = 0x6;
    public static final int IA32_TIME_STAMP_COUNTER = 0x10;
    public static final int IA32_PLATFORM_ID = 0x17;
    public static final int IA32_APIC_BASE = 0x1b;
    public static final int IA32_FEATURE_CONTROL = 0x3a;
    public static final int IA32_TSC_ADJUST = 0x3b;
    public static final int IA32_SPEC_CTRL = 0x48;
    public static final int IA32_PRED_CMD = 0x49;
    public static final int IA32_BIOS_UPDT_TRIG = 0x79;
    public static final int IA32_MKTME_KEYID_PARTITIONING = 0x87;
    public static final int IA32_BIOS_SIGN_ID = 0x8b;
    public static final int IA32_WBINVDP = 0x98;
    public static final int IA32_WBNOINVDP = 0x99;
    /// Non-zero while an interrupt is pending; read by the TDX module.
    public static final int IA32_INTR_PENDING = 0x9a;
    public static final int IA32_SMM_MONITOR_CTL = 0x9b;
    public static final int IA32_MISC_PACKAGE_CTLS = 0xbc;
    public static final int IA32_XAPIC_DISABLE_STATUS = 0xbd;
    public static final int MSR_PLATFORM_INFO = 0xce;
    public static final int IA32_CORE_CAPABILITIES = 0xcf;
    public static final int IA32_UMWAIT_CONTROL = 0xe1;
    public static final int IA32_MPERF = 0xe7;
    public static final int IA32_APERF = 0xe8;
    public static final int IA32_MTRRCAP = 0xfe;
    public static final int IA32_ARCH_CAPABILITIES = 0x10a;
    public static final int IA32_FLUSH_CMD = 0x10b;
    public static final int IA32_TSX_CTRL = 0x122;
    public static final int MISC_FEATURE_ENABLES = 0x140;
    public static final int IA32_SYSENTER_CS = 0x174;
    public static final int IA32_SYSENTER_ESP = 0x175;
    public static final int IA32_SYSENTER_EIP = 0x176;
    public static final int IA32_MCG_CAP = 0x179;
    public static final int IA32_MCG_STATUS = 0x17a;
    public static final int IA32_MCG_CTL = 0x17b;
    public static final int IA32_PERF_STATUS = 0x198;
    public static final int IA32_PERF_CTL = 0x199;
    public static final int IA32_THERM_INTERRUPT = 0x19b;
    public static final int IA32_THERM_STATUS = 0x19c;
    public static final int IA32_MISC_ENABLE = 0x1a0;
    public static final int IA32_ENERGY_PERF_BIAS = 0x1b0;
    public static final int IA32_DEBUGCTL = 0x1d9;
    public static final int IA32_SMRR_BASE = 0x1f2;
    public static final int IA32_SMRR_MASK = 0x1f3;
    public static final int IA32_SMRR2_BASE = 0x1f6;
    public static final int IA32_SMRR2_MASK = 0x1f7;
    public static final int IA32_MTRR_PHYSBASE0 = 0x200;
    public static final int IA32_MTRR_FIX64K_00000 = 0x250;
    public static final int IA32_MTRR_FIX16K_80000 = 0x258;
    public static final int IA32_MTRR_FIX16K_A0000 = 0x259;
    public static final int IA32_MTRR_FIX4K_C0000 = 0x268;
    public static final int IA32_PAT = 0x277;
    public static final int IA32_MC0_CTL2 = 0x280;
    public static final int IA32_MTRR_DEF_TYPE = 0x2ff;
    public static final int IA32_PERF_CAPABILITIES = 0x345;
    public static final int IA32_MC0_CTL = 0x400;
    public static final int IA32_VMX_BASIC = 0x480;
    public static final int IA32_VMX_EPT_VPID_CAP = 0x48c;
    public static final int IA32_VMX_VMFUNC = 0x491;
    public static final int IA32_VMX_EXIT_CTLS2 = 0x493;
    public static final int IA32_DS_AREA = 0x600;
    public static final int IA32_TSC_DEADLINE = 0x6e0;
    public static final int IA32_X2APIC_FIRST = 0x800;
    public static final int IA32_X2APIC_LAST = 0x8ff;
    public static final int IA32_TME_CAPABILITY = 0x981;
    public static final int IA32_TME_ACTIVATE = 0x982;
    public static final int IA32_XSS = 0xda0;
    public static final int IA32_SEAMRR_BASE = 0x1400;
    public static final int IA32_SEAMRR_MASK = 0x1401;
    public static final int IA32_EFER = 0xc000_0080;
    public static final int IA32_STAR = 0xc000_0081;
    public static final int IA32_LSTAR = 0xc000_0082;
    public static final int IA32_CSTAR = 0xc000_0083;
    public static final int IA32_FMASK = 0xc000_0084;
    public static final int IA32_FS_BASE = 0xc000_0100;
    public static final int IA32_GS_BASE = 0xc000_0101;
    public static final int IA32_KERNEL_GS_BASE = 0xc000_0102;
    public static final int IA32_TSC_AUX = 0xc000_0103;

    private Msr() {
    }
}
