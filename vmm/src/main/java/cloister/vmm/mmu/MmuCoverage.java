package cloister.vmm.mmu;

import cloister.spec.kvm.Errno;
import java.util.Locale;
import java.util.Map;
import java.util.TreeMap;

/// How often each operation ended how.
final class MmuCoverage {
    private final Map<String, Long> counts = new TreeMap<>();

    void count(MmuStep.Kind kind, Errno errno) {
        counts.merge(kind + " " + (errno == null ? "ok" : errno.toString()), 1L, Long::sum);
    }

    /// An access was made during an operation.
    void race(String what) {
        counts.merge("meanwhile " + what, 1L, Long::sum);
    }

    /// How often SEAMCALLs of a TD were busy.
    void busy(Map<String, Long> seamcalls) {
        seamcalls.forEach((name, count) -> counts.merge("busy " + name, count, Long::sum));
    }

    /// How often `kind` ended with `errno`, null for success.
    long of(MmuStep.Kind kind, Errno errno) {
        return counts.getOrDefault(kind + " " + (errno == null ? "ok" : errno.toString()), 0L);
    }

    @Override public String toString() {
        var text = new StringBuilder();
        counts.forEach((name, count) -> text.append(String.format(Locale.ROOT, "%-28s %10d%n", name, count)));
        return text.toString();
    }
}
