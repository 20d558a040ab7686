package cloister.tdx.core;

import cloister.spec.tdx.MsrTable;
import cloister.spec.x86.Msr;

/// Which MSR accesses of a TD are native, depending on its configuration. [TDX-BASE "MSR Handling"]
public final class MsrAccess {
    private static final int XFAM_PT = 8;
    private static final int XFAM_CET = 11;
    private static final int XFAM_ULI = 14;
    private static final int XFAM_LBR = 15;

    private MsrAccess() {
    }

    public static boolean isNative(PlatformConfig config, Tdcs tdcs, MsrTable.Bit bit, int msr) {
        return bit == MsrTable.Bit.PASS || dynamic(config, tdcs, bit, msr);
    }

    /// Whether a configuration-dependent bit is clear for this TD.
    public static boolean dynamic(PlatformConfig config, Tdcs tdcs, MsrTable.Bit bit, int msr) {
        boolean perfmon = tdcs.hasAttribute(Tdcs.PERFMON);
        return switch (bit) {
            case PASS, EXIT -> false;
            case PERFMON -> perfmon;
            case XFAM_CET -> tdcs.xfam(XFAM_CET) && tdcs.xfam(XFAM_CET + 1);
            case XFAM_PT -> tdcs.xfam(XFAM_PT);
            case XFAM_ULI -> tdcs.xfam(XFAM_ULI);
            case XFAM_LBR -> tdcs.xfam(XFAM_LBR);
            case UMWAIT -> tdcs.cpuidFlag(Tdcs.WAITPKG);
            case XFD -> tdcs.cpuidFlag(Tdcs.XFD);
            case PKS -> tdcs.hasAttribute(Tdcs.PKS);
            case TSX -> tdcs.cpuidFlag(Tdcs.TSX);
            case OTHER -> (msr == Msr.IA32_PERF_CAPABILITIES && perfmon && tdcs.xfam(XFAM_PT))
                    || (msr == TdMsr.PERF_METRICS && perfmon && config.hasPerfMetrics());
        };
    }
}
