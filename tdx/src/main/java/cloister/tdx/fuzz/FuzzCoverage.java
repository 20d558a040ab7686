package cloister.tdx.fuzz;

import cloister.spec.tdx.SeamcallLeaf;
import cloister.spec.tdx.TdcallLeaf;
import cloister.spec.tdx.TdxStatus;
import java.util.EnumMap;
import java.util.Locale;
import java.util.Map;
import java.util.TreeMap;

/// How deep a run went: how often each function ended with each status.
final class FuzzCoverage {
    private final TreeMap<String, EnumMap<TdxStatus, long[]>> counts = new TreeMap<>();

    void host(long rax, TdxStatus status) {
        var leaf = SeamcallLeaf.of((int) rax & 0xffff);
        count(leaf == null ? "no SEAMCALL leaf" : leaf.specificationName(), status);
    }

    void guest(long rax, TdxStatus status) {
        var leaf = TdcallLeaf.of((int) rax & 0xffff);
        count(leaf == null ? "no TDCALL leaf" : leaf.specificationName(), status);
    }

    /// Whether it matters at which level of the Secure EPT a function succeeds.
    static boolean hasLevels(SeamcallLeaf leaf) {
        return switch (leaf) {
            case MEM_PAGE_AUG, MEM_PAGE_DEMOTE, MEM_PAGE_PROMOTE, MEM_PAGE_REMOVE, MEM_RANGE_BLOCK, MEM_RANGE_UNBLOCK, MEM_SEPT_REMOVE ->
                true;
            default -> false;
        };
    }

    /// A memory function succeeded at a level.
    void level(SeamcallLeaf leaf, int level) {
        count(leaf.specificationName() + "@" + level, TdxStatus.SUCCESS);
    }

    private void count(String name, TdxStatus status) {
        counts.computeIfAbsent(name, k -> new EnumMap<>(TdxStatus.class)).computeIfAbsent(status, k -> new long[1])[0]++;
    }

    /// How often a function ended with a status.
    long count(String name, TdxStatus... statuses) {
        long sum = 0;
        for (var status : statuses) {
            sum += counts.getOrDefault(name, new EnumMap<>(TdxStatus.class)).getOrDefault(status, new long[1])[0];
        }
        return sum;
    }

    /// The statuses that a function ended with, and how often.
    Map<TdxStatus, Long> of(String name) {
        var result = new EnumMap<TdxStatus, Long>(TdxStatus.class);
        counts.getOrDefault(name, new EnumMap<>(TdxStatus.class)).forEach((status, n) -> result.put(status, n[0]));
        return result;
    }

    @Override public String toString() {
        var text = new StringBuilder();
        counts.forEach((name, byStatus) -> {
            long calls = byStatus.values().stream().mapToLong(n -> n[0]).sum();
            text.append(String.format(Locale.ROOT, "%-26s %8d calls%n", name, calls));
            byStatus.forEach((status, n) -> text.append(String.format(Locale.ROOT, "    %-36s %8d%n", status, n[0])));
        });
        return text.toString();
    }
}
