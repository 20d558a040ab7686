package cloister.vmm.mmu;

import cloister.spec.kvm.Errno;
import java.util.Collections;
import java.util.Locale;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;

/// How often each operation ended how.
final class MmuCoverage {
    private static final String[] TYPES = {"ordinary", "software-protected", "TD"};
    /// By the bits of [MmuModel].
    private static final String[] VARIANTS = {"manual protection", "slots that go alone", "ept=0", "other memory types", "retry-forever",
        "nx_huge_pages", "dirty rings", "a VM beside it"};
    private final Map<String, Long> counts = new TreeMap<>();

    void count(MmuStep.Kind kind, Errno errno) {
        counts.merge(kind + " " + (errno == null ? "ok" : errno.toString()), 1L, Long::sum);
    }

    /// An access was made during an operation.
    void race(String what) {
        counts.merge("meanwhile " + what, 1L, Long::sum);
    }

    /// KVM_RUN returned.
    void left(String reason) {
        counts.merge("exit " + reason, 1L, Long::sum);
    }

    /// A machine was started.
    void machine(MmuStep machine) {
        counts.merge("machine " + TYPES[machine.operand(0)] + " with vCPUs: " + machine.operand(1), 1L, Long::sum);
        counts.merge("machine with processors: " + machine.operand(2), 1L, Long::sum);
        for (int bits = machine.operand(3); bits != 0; bits &= bits - 1) {
            counts.merge("machine with " + VARIANTS[Integer.numberOfTrailingZeros(bits)], 1L, Long::sum);
        }
    }

    /// The names of everything that was seen.
    Set<String> seen() {
        return Collections.unmodifiableSet(counts.keySet());
    }

    /// How often SEAMCALLs of a TD were busy.
    void busy(Map<String, Long> seamcalls) {
        seamcalls.forEach((name, count) -> counts.merge("busy " + name, count, Long::sum));
    }

    @Override public String toString() {
        var text = new StringBuilder();
        counts.forEach((name, count) -> text.append(String.format(Locale.ROOT, "%-28s %10d%n", name, count)));
        return text.toString();
    }
}
