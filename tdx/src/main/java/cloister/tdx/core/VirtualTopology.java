package cloister.tdx.core;

import cloister.spec.tdx.CpuidTable;
import cloister.spec.tdx.TdxStatus;

/// Checks a TD's CPUID(1FH) and derives CPUID(0BH) from it. All-zero means the platform's topology. [TDX-BASE "CPU Topology
/// Virtualization"]
final class VirtualTopology {
    private static final int LEVELS = 6;
    private static final int SMT = 1;
    private static final int CORE = 2;

    private final Tdcs tdcs;
    private final PlatformConfig config;

    VirtualTopology(Tdcs tdcs, PlatformConfig config) {
        this.tdcs = tdcs;
        this.config = config;
    }

    private int[] value(int leaf, int subleaf) {
        int at = Tdcs.CPUID_VALUES + 16 * CpuidTable.find(leaf, subleaf);
        return new int[] {tdcs.u32(at), tdcs.u32(at + 4), tdcs.u32(at + 8), tdcs.u32(at + 12)};
    }

    private void value(int leaf, int subleaf, int[] value) {
        int at = Tdcs.CPUID_VALUES + 16 * CpuidTable.find(leaf, subleaf);
        for (int r = 0; r < 4; r++) {
            tdcs.u32(at + 4 * r, value[r]);
        }
    }

    private static boolean isNull(int[] value) {
        return (value[0] | value[1] | value[2] | value[3]) == 0;
    }

    private static LeafFailure malformed() {
        return new LeafFailure(TdxStatus.CPUID_LEAF_1F_FORMAT_UNRECOGNIZED);
    }

    void run() throws LeafFailure {
        boolean useNative = isNull(value(0x1f, 0));
        boolean coreSeen = false;
        int type = 0;
        int[] last = new int[4];
        int level0b = 0;
        for (int subleaf = 0; subleaf < LEVELS; subleaf++) {
            int[] value = value(0x1f, subleaf);
            if (useNative) {
                if (!isNull(value)) {
                    throw malformed();
                }
                value = config.cpuid[CpuidTable.find(0x1f, subleaf)].clone();
                value(0x1f, subleaf, value);
            }
            int previous = type;
            type = (value[2] >>> 8) & 0xff;
            if (type == 0) {
                if (subleaf == 0 || !coreSeen) {
                    throw malformed();
                }
                continue;
            }
            if (type <= previous || type >= LEVELS || (value[2] & 0xff) != subleaf || (type == SMT && subleaf != 0)) {
                throw malformed();
            }
            if (type == SMT) {
                value(0xb, 0, value);
                level0b = 1;
            }
            coreSeen |= type == CORE;
            last = value.clone();
        }
        last[2] = level0b | (CORE << 8);
        value(0xb, level0b, last);
        for (int level = level0b + 1; level <= 2; level++) {
            value(0xb, level, new int[4]);
        }
    }
}
