package cloister.tdx.core;

/// MSRs that belong to a TD's context. [TDX-ABI "TDVPS Guest MSR State"]
public final class TdMsr {
    public static final int PERFEVTSEL0 = 0x186;
    public static final int OFFCORE_RSP0 = 0x1a6;
    public static final int XFD = 0x1c4;
    public static final int XFD_ERR = 0x1c5;
    public static final int FIXED_CTR0 = 0x309;
    public static final int PERF_METRICS = 0x329;
    public static final int FIXED_CTR_CTRL = 0x38d;
    public static final int PERF_GLOBAL_STATUS = 0x38e;
    public static final int PERF_GLOBAL_STATUS_RESET = 0x390;
    public static final int PERF_GLOBAL_STATUS_SET = 0x391;
    public static final int PEBS_ENABLE = 0x3f1;
    public static final int PEBS_DATA_CFG = 0x3f2;
    public static final int PEBS_LD_LAT = 0x3f6;
    public static final int PEBS_FRONTEND = 0x3f7;
    public static final int A_PMC0 = 0x4c1;
    public static final int X2APIC_ID = 0x802;
    public static final int X2APIC_TPR = 0x808;
    public static final int X2APIC_EOI = 0x80b;
    public static final int X2APIC_ICR = 0x830;
    public static final int LBR_DEPTH = 0x14cf;
    public static final int UARCH_MISC_CTL = 0x1b01;
    public static final int PERF_COUNTERS = 8;

    private TdMsr() {
    }
}
