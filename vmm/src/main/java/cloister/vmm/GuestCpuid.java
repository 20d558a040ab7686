package cloister.vmm;

import cloister.spec.kvm.CpuidEntry;
import java.util.ArrayList;
import java.util.List;

/// Fits CPUID leaves to one vCPU of a machine: APIC ids and topology (one package, one thread per core).
/// [SDM Vol. 2 "CPUID-CPU Identification"]
final class GuestCpuid {
    private static final int HYPERVISOR = 1 << 31;
    private static final int X2APIC = 1 << 21;
    private static final int HTT = 1 << 28;
    private static final int LEVEL_SMT = 1;
    private static final int LEVEL_CORE = 2;
    /// Of leaf 4's EAX: type, level, addressable ids that share the cache and cores of the package, both less one.
    private static final int CACHE_TYPE = 0x1f;
    private static final int CACHE_LEVEL = 5;
    private static final int CACHE_SHARING = 14;
    private static final int CACHE_CORES = 26;
    private static final int CACHE_SELF = (1 << CACHE_SHARING) - 1;
    private static final int MOST_CORES = 63;
    private static final int LAST_LEVEL = 3;

    private GuestCpuid() {
    }

    /// The leaves of vCPU `id` of `cpus`, from what is supported.
    static List<CpuidEntry> forVcpu(List<CpuidEntry> supported, int id, int cpus) {
        var result = new ArrayList<CpuidEntry>();
        for (var entry : supported) {
            switch (entry.function()) {
                case 1 -> result.add(features(entry, id, cpus));
                case 4 -> result.add(cache(entry, cpus));
                case 0xb, 0x1f -> { }
                default -> result.add(entry);
            }
        }
        if (supported.stream().anyMatch(e -> e.function() == 0 && Integer.compareUnsigned(e.eax(), 0xb) >= 0)) {
            topology(0xb, id, cpus, result);
        }
        if (supported.stream().anyMatch(e -> e.function() == 0x1f)) {
            topology(0x1f, id, cpus, result);
        }
        return result;
    }

    private static void topology(int leaf, int id, int cpus, List<CpuidEntry> result) {
        result.add(CpuidEntry.subLeaf(leaf, 0, 0, 1, LEVEL_SMT << 8, id));
        result.add(CpuidEntry.subLeaf(leaf, 1, coreShift(cpus), cpus, (LEVEL_CORE << 8) | 1, id));
        result.add(CpuidEntry.subLeaf(leaf, 2, 0, 0, 2, id));
    }

    private static CpuidEntry features(CpuidEntry entry, int id, int cpus) {
        int ebx = (entry.ebx() & 0xffff) | (1 << (coreShift(cpus) + 16)) | (id << 24);
        int edx = cpus > 1 ? entry.edx() | HTT : entry.edx() & ~HTT;
        return CpuidEntry.leaf(1, entry.eax(), ebx, entry.ecx() | HYPERVISOR | X2APIC, edx);
    }

    /// Caches of levels 1 and 2 are one core's, the third is the package's; so is what says how many cores there are.
    private static CpuidEntry cache(CpuidEntry entry, int cpus) {
        if ((entry.eax() & CACHE_TYPE) == 0) {
            return entry;
        }
        int ids = (1 << coreShift(cpus)) - 1;
        int sharing = ((entry.eax() >>> CACHE_LEVEL) & 7) == LAST_LEVEL ? ids : 0;
        int eax = (entry.eax() & CACHE_SELF) | (sharing << CACHE_SHARING) | (Math.min(ids, MOST_CORES) << CACHE_CORES);
        return CpuidEntry.subLeaf(entry.function(), entry.index(), eax, entry.ebx(), entry.ecx(), entry.edx());
    }

    private static int coreShift(int cpus) {
        return 32 - Integer.numberOfLeadingZeros(cpus - 1);
    }
}
