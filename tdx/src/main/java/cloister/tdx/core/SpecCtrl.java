package cloister.tdx.core;

/// IA32_SPEC_CTRL of a TD that does not know of a bit that the module keeps set. [TDX-BASE "IA32_SPEC_CTRL"]
public final class SpecCtrl {
    private static final long DDPD_U = 1 << 8;

    private SpecCtrl() {
    }

    public static boolean isVirtual(PlatformConfig config, Tdcs tdcs) {
        return config.ddpd && !tdcs.cpuidFlag(Tdcs.DDPD);
    }

    /// What the MSR really holds when the TD writes `value`.
    public static long real(PlatformConfig config, Tdcs tdcs, long value) {
        if (!config.ddpd) {
            return value & ~DDPD_U;
        }
        return tdcs.cpuidFlag(Tdcs.DDPD) ? value : value | DDPD_U;
    }

    /// What the TD sees of `value`.
    public static long virtual(PlatformConfig config, Tdcs tdcs, long value) {
        return isVirtual(config, tdcs) ? value & ~DDPD_U : value;
    }
}
