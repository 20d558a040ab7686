package cloister.cli;

import cloister.vmm.MachineStats;
import java.io.PrintStream;
import java.util.Locale;
import java.util.Map;
import java.util.TreeMap;

/// `--stats` as text.
final class StatsReport {
    private StatsReport() {
    }

    static void print(MachineStats stats, PrintStream out) {
        double seconds = stats.wallNanos() / 1e9;
        out.printf(Locale.ROOT, "instructions retired %,d%n", stats.instructions());
        out.printf(Locale.ROOT, "wall time            %.2f s%n", seconds);
        out.printf(Locale.ROOT, "virtual time         %.2f s%n", stats.virtualNanos() / 1e9);
        out.printf(Locale.ROOT, "speed                %.1f MIPS%n", seconds == 0 ? 0 : stats.instructions() / seconds / 1e6);
        out.printf(Locale.ROOT, "pages accepted       %,d%n", stats.pagesAccepted());
        out.printf(Locale.ROOT, "pages converted      %,d%n", stats.pagesConverted());
        out.printf(Locale.ROOT, "trace hash           %016x%n", stats.traceHash());
        table(out, "VM exits by reason", stats.vmExits());
        table(out, "SEAMCALLs by leaf", stats.seamcalls());
    }

    private static void table(PrintStream out, String title, Map<String, Long> counts) {
        if (!counts.isEmpty()) {
            out.println(title);
            new TreeMap<>(counts).forEach((name, count) -> out.printf(Locale.ROOT, "  %-32s %,12d%n", name, count));
        }
    }
}
