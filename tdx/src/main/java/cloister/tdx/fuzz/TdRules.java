package cloister.tdx.fuzz;

import cloister.memory.PhysicalMemory;
import cloister.tdx.core.PlatformConfig;
import cloister.tdx.core.SeptEntry;
import cloister.tdx.core.Tdcs;
import cloister.tdx.core.Tdr;

/// What an initialised TD's parameters may be, whatever the VMM wrote into TD_PARAMS while they were read. [TDX-BASE "TD
/// Configuration"]
final class TdRules {
    private static final long XFAM_ALWAYS = 3;
    private static final long DEBUG_OR_PERFMON = 1 | (1L << 63);
    private static final long MIGRATABLE = 1 << 29;
    private static final int TSC_MIN = 4;
    private static final int TSC_MAX = 400;

    private TdRules() {
    }

    static void check(PlatformConfig config, Tdr tdr, Tdcs tdcs) {
        long attributes = tdcs.attributes();
        rule((attributes & ~config.attributesFixed0) == 0, tdr, "ATTRIBUTES", attributes);
        rule((attributes & MIGRATABLE) == 0 || (attributes & DEBUG_OR_PERFMON) == 0, tdr, "ATTRIBUTES", attributes);
        long xfam = tdcs.xfam();
        rule((xfam & ~config.xfamFixed0()) == 0 && (xfam & XFAM_ALWAYS) == XFAM_ALWAYS, tdr, "XFAM", xfam);
        rule(sameBits(xfam >>> 5, 7) && sameBits(xfam >>> 11, 3) && sameBits(xfam >>> 17, 3), tdr, "XFAM", xfam);
        int vcpus = tdcs.u32(Tdcs.MAX_VCPUS);
        rule(vcpus > 0 && vcpus <= Tdcs.MAX_VCPUS_PER_TD, tdr, "MAX_VCPUS", vcpus);
        int vms = tdcs.numL2Vms();
        rule(vms <= Tdcs.MAX_L2_VMS && tdr.numTdcx() >= Tdcs.MIN_PAGES + vms, tdr, "NUM_L2_VMS", vms);
        rule((attributes & MIGRATABLE) == 0 || vms == 0, tdr, "NUM_L2_VMS of a migratable TD", vms);
        long eptp = tdcs.eptp();
        rule(PhysicalMemory.pa(eptp & SeptEntry.HPA) == PhysicalMemory.pa(tdr.tdcxHpa(Tdcs.SEPT_ROOT_PAGE)), tdr, "EPTP", eptp);
        rule((eptp & 7) == 6 && (tdcs.rootLevel() == 4 || (tdcs.rootLevel() == 3 && !tdcs.gpaw())), tdr, "EPTP", eptp);
        int tsc = tdcs.u16(Tdcs.TSC_FREQUENCY);
        rule(tsc >= TSC_MIN && tsc <= TSC_MAX, tdr, "TSC_FREQUENCY", tsc);
        rule(tdcs.gpaw() == ((tdcs.u64(Tdcs.CONFIG_FLAGS) & 1) != 0), tdr, "CONFIG_FLAGS", tdcs.u64(Tdcs.CONFIG_FLAGS));
    }

    private static boolean sameBits(long value, long mask) {
        return (value & mask) == 0 || (value & mask) == mask;
    }

    private static void rule(boolean holds, Tdr tdr, String field, long value) {
        FuzzFinding.check(holds, "%s of TD 0x%x is 0x%x", field, tdr.pa, value);
    }
}
