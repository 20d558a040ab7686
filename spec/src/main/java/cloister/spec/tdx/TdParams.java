package cloister.spec.tdx;

/// TD_PARAMS, the input structure of TDH.MNG.INIT: offsets and flags. [TDX-ABI "TD_PARAMS"]
public final class TdParams {
    public static final int SIZE = 1024;
    public static final int ATTRIBUTES = 0;
    public static final int XFAM = 8;
    public static final int MAX_VCPUS = 16;
    public static final int EPTP_CONTROLS = 24;
    public static final int CONFIG_FLAGS = 32;
    public static final int TSC_FREQUENCY = 40;
    public static final int MRCONFIGID = 80;
    public static final int MROWNER = 128;
    public static final int MROWNERCONFIG = 176;
    public static final int CPUID_VALUES = 256;
    public static final int MEASUREMENT_SIZE = 48;

    /// Guest-physical addresses are 52 bits wide, SHARED is bit 51; else 48 and 47.
    public static final long FLAG_MAX_GPAW = 1;
    /// TDG.VP.VMCALL leaves RBP alone.
    public static final long FLAG_NO_RBP_MOD = 1 << 2;
    /// The unit of [#TSC_FREQUENCY].
    public static final long TSC_UNIT_HZ = 25_000_000;

    /// TD attribute: an access to a pending page exits instead of raising #VE.
    public static final long ATTRIBUTE_SEPT_VE_DISABLE = 1L << 28;
    /// ATTRIBUTES bit: the TD has performance monitoring.
    public static final long ATTRIBUTE_PERFMON = 1L << 63;

    private TdParams() {
    }
}
