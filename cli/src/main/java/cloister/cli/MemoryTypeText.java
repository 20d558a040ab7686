package cloister.cli;

import cloister.vmm.observe.MemoryTypes;
import cloister.vmm.observe.MemoryTypes.Use;
import java.util.Locale;
import java.util.TreeMap;

/// How the processors use memory, as text for people. Its format is no interface.
final class MemoryTypeText {
    private static final long KIB = 1024;

    private MemoryTypeText() {
    }

    /// How much is used with which type and why, and what is used with two.
    static String summary(MemoryTypes types) {
        var sums = new TreeMap<String, Long>();
        types.uses().forEach(use -> sums.merge(use.type() + " = " + why(use), (use.end() - use.linear()) / KIB, Long::sum));
        var out = new StringBuilder();
        sums.forEach((type, kib) -> line(out, "MEMTYPE %,12d KiB  %s", kib, type));
        types.mixed().forEach(mixed -> line(out, "MEMTYPE mixed: page 0x%012x is %s at linear 0x%016x and %s at 0x%016x", mixed.pa(),
                mixed.cachedType(), mixed.cachedLinear(), mixed.notCachedType(), mixed.notCachedLinear()));
        line(out, "MEMTYPE %d pages are used with and without caching at a time", types.mixed().size());
        return out.toString();
    }

    /// Every translation, and the summary.
    static String of(MemoryTypes types) {
        var out = new StringBuilder();
        for (var use : types.uses()) {
            line(out, "LP%d.TLB 0x%016x-0x%016x -> 0x%012x KeyID %2d %s  %s = %s", use.lp(), use.linear(), use.end(), use.pa(), use.keyId(),
                    use.writable() ? "rw" : "r-", use.type(), why(use));
        }
        return out + summary(types);
    }

    private static String why(Use use) {
        if (use.cacheDisabled()) {
            return "CR0.CD";
        }
        boolean ept = !use.ept().equals("none");
        String first = ept ? "EPT " + use.ept() + (use.ignorePat() ? " IPAT" : "") : "no EPT";
        return first + ", PAT " + use.pat() + (use.ignorePat() ? " (ignored)" : "") + ", host MTRR " + use.hostMtrr()
                + (ept ? " (ignored)" : "");
    }

    private static void line(StringBuilder out, String format, Object... arguments) {
        out.append(String.format(Locale.ROOT, format, arguments)).append('\n');
    }
}
