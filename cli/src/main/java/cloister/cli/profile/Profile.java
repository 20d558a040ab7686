package cloister.cli.profile;

import cloister.vmm.ProfileSink;
import java.util.Comparator;
import java.util.HashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.TreeMap;

/// Where a guest's instructions went: samples by retired instructions, so equal runs have equal profiles. A sample is one address, no call
/// chain: Debian's kernels have no frame pointers. A stack is vCPU, mode, function.
public final class Profile implements ProfileSink {
    private static final long KERNEL_HALF = 0x8000_0000_0000_0000L;
    private static final long LINK_BASE = 0xffffffff80000000L;
    private static final long MODULES_BASE = 0xffffffffc0000000L;
    private static final long PAGE_MASK = 0xfff;
    private static final String ANCHOR = "entry_SYSCALL_64";

    private final Map<Sample, long[]> samples = new HashMap<>();
    private long lstar;
    private long total;
    private long count;

    private record Sample(int vcpu, boolean user, long rip) {
    }

    /// How much a function takes.
    ///
    /// @param name    vCPU, mode and function with semicolons between, or function with mode
    /// @param instructions the instructions that its samples stand for
    public record Line(String name, long instructions) {
    }

    @Override public void sampled(int vcpu, long rip, boolean user, long entry, long instructions) {
        samples.computeIfAbsent(new Sample(vcpu, user, rip), key -> new long[1])[0] += instructions;
        total += instructions;
        count++;
        if (Long.compareUnsigned(entry, LINK_BASE) >= 0) {
            lstar = entry;
        }
    }

    /// How many instructions the samples stand for.
    public long total() {
        return total;
    }

    /// How far the kernel runs from where it was linked to (KASLR): the system-call entry tells.
    private long slide(SymbolTable symbols) {
        var linked = symbols.address(ANCHOR);
        return lstar == 0 || linked.isEmpty() ? 0 : lstar - linked.getAsLong();
    }

    private String function(Sample sample, SymbolTable symbols, long slide) {
        if (sample.user) {
            return "[user page 0x" + Long.toHexString(sample.rip & ~PAGE_MASK) + "]";
        }
        if (Long.compareUnsigned(sample.rip, KERNEL_HALF) < 0) {
            return "[boot: firmware, decompressor, identity map]";
        }
        var name = symbols.at(sample.rip - slide);
        if (name != null && Long.compareUnsigned(sample.rip, LINK_BASE) >= 0) {
            return name;
        }
        return (Long.compareUnsigned(sample.rip, MODULES_BASE) >= 0 ? "[module page 0x" : "[kernel page 0x")
                + Long.toHexString(sample.rip & ~PAGE_MASK) + "]";
    }

    /// Functions over all vCPUs, the hottest first.
    public List<Line> functions(SymbolTable symbols) {
        return lines(symbols, false).stream().sorted(Comparator.comparingLong(Line::instructions).reversed()
                .thenComparing(Line::name)).toList();
    }

    private List<Line> lines(SymbolTable symbols, boolean stacks) {
        long slide = slide(symbols);
        var sums = new TreeMap<String, Long>();
        samples.forEach((sample, count) -> {
            String function = function(sample, symbols, slide);
            String mode = sample.user ? "user" : "kernel";
            sums.merge(stacks ? "vcpu" + sample.vcpu + ";" + mode + ";" + function : function, count[0], Long::sum);
        });
        return sums.entrySet().stream().map(e -> new Line(e.getKey(), e.getValue())).toList();
    }

    /// Lines of `vcpuN;kernel;function instructions`, as flame graph tools read them.
    public String folded(SymbolTable symbols) {
        var text = new StringBuilder();
        lines(symbols, true).forEach(line -> text.append(line.name()).append(' ').append(line.instructions()).append('\n'));
        return text.toString();
    }

    /// The hottest functions, for people.
    public String report(SymbolTable symbols, int top) {
        var functions = functions(symbols);
        var text = new StringBuilder(String.format(Locale.ROOT, "Hot functions of the guest: %,d instructions in %,d samples%n", total,
                count));
        long shown = 0;
        for (var line : functions.subList(0, Math.min(top, functions.size()))) {
            text.append(String.format(Locale.ROOT, "  %6.2f %%  %,14d  %s%n", 100.0 * line.instructions() / total,
                    line.instructions(), line.name()));
            shown += line.instructions();
        }
        if (functions.size() > top) {
            text.append(String.format(Locale.ROOT, "  %6.2f %%  %,14d  in %,d others%n", 100.0 * (total - shown) / total, total - shown,
                    functions.size() - top));
        }
        return text.toString();
    }
}
