package cloister.tdx.core;

import cloister.spec.tdx.CpuidTable;

/// What TDH.SYS.INIT sampled of the platform.
final class PlatformConfig {
    /// CONFIG_FLAGS bits that may be 1.
    static final long CONFIG_FLAGS = 0xf;
    /// CONFIG_FLAGS bits that must be 1.
    static final long CONFIG_FLAGS_FIXED1 = 0;
    static final long XFAM_FIXED0 = 0x6_dbe7;
    static final long XFAM_FIXED1 = 3;

    long tscAdjust;
    long coreCapabilities;
    long archCapabilities;
    long xapicDisableStatus;
    long miscPackageCtls;
    long perfCapabilities;
    long mtrrcap;
    final long[] smrrBase = new long[2];
    final long[] smrrMask = new long[2];
    long tmeCapability;
    long tmeActivate;
    long keyIdPartitioning;
    long cacheSubBlocks;
    long vmxBasic;
    long vmxTruePinbased;
    long vmxTrueProcbased;
    long vmxProcbased2;
    long vmxProcbased3;
    long vmxTrueExit;
    long vmxTrueEntry;
    long vmxMisc;
    long vmxEptVpidCap;
    long vmxCr0Fixed0;
    long vmxCr0Fixed1;
    long vmxCr4Fixed0;
    long vmxCr4Fixed1;

    int keyIdShift = 46;
    long keyIdMask;
    int maxPa;
    int privateKeyIdMin;
    int privateKeyIdMax;
    long seamrrBase;
    long seamrrSize;

    /// Initial controls of a TD VMCS and of an L2 VMCS.
    final VmcsControls td = new VmcsControls();
    final VmcsControls l2 = new VmcsControls();

    int coreIdShift;
    int coreIdMask;
    int packageIdShift;
    int platformFms;
    int lastExtendedLeaf;
    boolean waitpkg;
    boolean hle;
    boolean rtm;
    boolean la57;
    boolean lam;
    boolean lass;
    boolean ddpd;
    boolean perfmonExtLeaf;
    boolean xfd;
    int xfdFaultingMask;
    int xcr0Supported;
    int xssSupported;
    final int[] xsaveSize = new int[32];
    final boolean[] xsaveAlign = new boolean[32];
    long crystalHz;
    long tscHz;
    int fixedCounters;
    int fixedCounterBitmap;
    int coreType;
    int maxLbrDepth;
    long attributesFixed0;
    long configFlagsFixed0;
    /// Native CPUID by row of [CpuidTable]; after TDH.SYS.CONFIG with fixed bits applied.
    final int[][] cpuid = new int[CpuidTable.rows().size()][4];

    /// XFAM bits that may be 1.
    long xfamFixed0() {
        return XFAM_FIXED0 & (xcr0Supported | xssSupported) & 0xffff_ffffL;
    }

    /// The bits of register `r` of configurable CPUID entry `i` that a TD's parameters decide.
    int configurable(int i, int r) {
        var row = CpuidTable.configurable(i);
        return row.configDirect()[r] | row.allowDirect()[r] & cpuid[CpuidTable.rows().indexOf(row)][r];
    }

    /// Control fields of a VMCS.
    static final class VmcsControls {
        int pinbased;
        int procbased;
        int procbased2;
        long procbased3;
        int exit;
        int entry;
    }
}
