package cloister.tdx.fuzz;

import cloister.spec.tdx.SeamcallLeaf;
import cloister.spec.tdx.TdcallLeaf;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import java.util.stream.Collectors;

/// How deep a run went: how often each function was called, and how often it succeeded.
final class FuzzCoverage {
    private final TreeMap<String, long[]> counts = new TreeMap<>();

    void host(long rax, boolean success) {
        var leaf = SeamcallLeaf.of((int) rax & 0xffff);
        count(leaf == null ? "no SEAMCALL leaf" : leaf.specificationName(), success);
    }

    void guest(long rax, boolean success) {
        var leaf = TdcallLeaf.of((int) rax & 0xffff);
        count(leaf == null ? "no TDCALL leaf" : leaf.specificationName(), success);
    }

    private void count(String name, boolean success) {
        var pair = counts.computeIfAbsent(name, k -> new long[2]);
        pair[0]++;
        pair[1] += success ? 1 : 0;
    }

    Set<String> successful() {
        return counts.entrySet().stream().filter(e -> e.getValue()[1] > 0).map(Map.Entry::getKey).collect(Collectors.toSet());
    }

    @Override public String toString() {
        var text = new StringBuilder();
        counts.forEach((name, pair) -> text.append(String.format("%-24s %8d calls, %8d succeed%n", name, pair[0], pair[1])));
        return text.toString();
    }
}
