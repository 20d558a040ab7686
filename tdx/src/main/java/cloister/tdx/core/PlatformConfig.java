package cloister.tdx.core;

import cloister.spec.tdx.CpuidTable;

/// What TDH.SYS.INIT sampled of the platform.
public final class PlatformConfig {
    /// CONFIG_FLAGS bits that may be 1.
    public static final long CONFIG_FLAGS = 0xf;
    /// CONFIG_FLAGS bits that must be 1.
    static final long CONFIG_FLAGS_FIXED1 = 0;
    static final long XFAM_FIXED0 = 0x6_dbe7;
    public static final long XFAM_FIXED1 = 3;
    private static final long PERF_METRICS_AVAILABLE = 1 << 15;

    public long tscAdjust;
    long coreCapabilities;
    public long archCapabilities;
    long xapicDisableStatus;
    long miscPackageCtls;
    public long perfCapabilities;
    long mtrrcap;
    final long[] smrrBase = new long[2];
    final long[] smrrMask = new long[2];
    long tmeCapability;
    long tmeActivate;
    long keyIdPartitioning;
    public long cacheSubBlocks;
    long vmxBasic;
    long vmxTruePinbased;
    long vmxTrueProcbased;
    long vmxProcbased2;
    long vmxProcbased3;
    long vmxTrueExit;
    long vmxTrueEntry;
    long vmxMisc;
    public long vmxEptVpidCap;
    public long vmxCr0Fixed0;
    public long vmxCr0Fixed1;
    public long vmxCr4Fixed0;
    public long vmxCr4Fixed1;

    int keyIdShift = 46;
    public long keyIdMask;
    public int maxPa;
    public int privateKeyIdMin;
    public int privateKeyIdMax;
    public long seamrrBase;
    public long seamrrSize;

    /// Initial controls of a TD VMCS and of an L2 VMCS.
    public final VmcsControls td = new VmcsControls();
    public final VmcsControls l2 = new VmcsControls();

    int coreIdShift;
    int packageIdShift;
    public int platformFms;
    public int lastExtendedLeaf;
    public boolean waitpkg;
    boolean hle;
    boolean rtm;
    public boolean la57;
    boolean lam;
    public boolean lass;
    public boolean ddpd;
    public boolean xfd;
    public int xfdFaultingMask;
    public int xcr0Supported;
    public int xssSupported;
    final int[] xsaveSize = new int[32];
    final boolean[] xsaveAlign = new boolean[32];
    long crystalHz;
    public long tscHz;
    public int fixedCounters;
    public int fixedCounterBitmap;
    public int coreType;
    public int maxLbrDepth;
    public long attributesFixed0;
    public long configFlagsFixed0;
    /// Native CPUID by row of [CpuidTable]; after TDH.SYS.CONFIG with fixed bits applied.
    public final int[][] cpuid = new int[CpuidTable.rows().size()][4];

    /// XFAM bits that may be 1.
    public long xfamFixed0() {
        return XFAM_FIXED0 & (xcr0Supported | xssSupported) & 0xffff_ffffL;
    }

    /// Applies the bits that are the same for all TDs to the sampled CPUID values.
    public void completeCpuid() {
        var rows = CpuidTable.rows();
        for (int i = 0; i < rows.size(); i++) {
            var row = rows.get(i);
            for (int r = 0; r < 4; r++) {
                cpuid[i][r] = (cpuid[i][r] & ~row.fixed0()[r]) | row.fixed1()[r];
            }
        }
    }

    /// The bits of register `r` of configurable CPUID entry `i` that a TD's parameters decide.
    public int configurable(int i, int r) {
        var row = CpuidTable.configurable(i);
        return row.configDirect()[r] | (row.allowDirect()[r] & cpuid[CpuidTable.rows().indexOf(row)][r]);
    }

    /// Whether IA32_PERF_METRICS exists.
    public boolean hasPerfMetrics() {
        return (perfCapabilities & PERF_METRICS_AVAILABLE) != 0;
    }

    /// Control fields of a VMCS.
    public static final class VmcsControls {
        public int pinbased;
        int procbased;
        public int procbased2;
        long procbased3;
        int exit;
        int entry;
    }
}
