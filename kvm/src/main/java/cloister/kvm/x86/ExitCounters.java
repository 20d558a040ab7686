package cloister.kvm.x86;

import cloister.kvm.KvmStats;
import cloister.kvm.td.SeamCounters;
import cloister.spec.vmx.ExitReason;
import java.util.Map;
import java.util.TreeMap;

/// The counters of one VM.
final class ExitCounters implements KvmStats {
    private final long[] exits = new long[128];
    private final Map<String, Long> tdvmcalls = new TreeMap<>();
    private final SeamCounters seam = new SeamCounters();
    long pagesAdded;
    long pagesAugmented;
    long pagesConverted;
    long tdxPages;
    long leakedPages;

    void exit(int basicReason) {
        exits[basicReason & 127]++;
    }

    void tdvmcall(String name) {
        tdvmcalls.merge("TDVMCALL." + name, 1L, Long::sum);
    }

    SeamCounters seam() {
        return seam;
    }

    @Override public Map<String, Long> exits() {
        var result = new TreeMap<String, Long>(tdvmcalls);
        for (int i = 0; i < exits.length; i++) {
            if (exits[i] != 0) {
                result.put(ExitReason.name(i), exits[i]);
            }
        }
        return result;
    }

    @Override public Map<String, Long> seamcalls() {
        return seam.calls();
    }

    @Override public Map<String, Long> busySeamcalls() {
        return seam.busy();
    }

    @Override public long pagesAdded() {
        return pagesAdded;
    }

    @Override public long pagesAugmented() {
        return pagesAugmented;
    }

    @Override public long pagesConverted() {
        return pagesConverted;
    }

    @Override public long tdxPages() {
        return tdxPages;
    }

    @Override public long leakedPages() {
        return leakedPages;
    }
}
