package cloister.kvm.vcpu;

import java.util.Map;
import java.util.TreeMap;

/// SEAMCALLs by leaf.
public final class SeamCounters {
    private static final int LEAVES = 256;
    private final long[] calls = new long[LEAVES];
    private final long[] busy = new long[LEAVES];
    private final String[] names = new String[LEAVES];

    /// Counts a call.
    public void count(int leaf, String name, boolean wasBusy) {
        int i = leaf & (LEAVES - 1);
        names[i] = name;
        calls[i]++;
        if (wasBusy) {
            busy[i]++;
        }
    }

    /// Calls by leaf name.
    public Map<String, Long> calls() {
        return toMap(calls);
    }

    /// Calls that returned OPERAND_BUSY, by leaf name.
    public Map<String, Long> busy() {
        return toMap(busy);
    }

    private Map<String, Long> toMap(long[] counts) {
        var result = new TreeMap<String, Long>();
        for (int i = 0; i < LEAVES; i++) {
            if (counts[i] != 0) {
                result.put(names[i], counts[i]);
            }
        }
        return result;
    }
}
