package cloister.cli;

import cloister.spec.tdx.SeamcallLeaf;
import cloister.vmm.MachineStats;
import cloister.vmm.observe.Cost;
import java.util.List;
import java.util.Locale;

/// `--stats` for people: what was dearest comes first, every table has its total.
final class StatsReport {
    private static final String COST_LINE = "  %-34s %12s %10s %10s %8s%n";
    private static final String THREAD_LINE = "  %-10s %16s %12s %12s %10s %10s %10s%n";

    private final StringBuilder out = new StringBuilder();

    private StatsReport() {
    }

    /// @param torn whether the guest was torn down
    static String of(MachineStats stats, boolean torn) {
        var report = new StatsReport();
        report.summary(stats, torn);
        report.costs("VM exits that KVM handled, by reason", "handling", stats.vmExits());
        report.explain(stats);
        report.costs("What the TDX module did for the guest by itself", "module", stats.moduleExits());
        report.costs("SEAMCALLs by leaf", "module", stats.seamcalls());
        report.threads(stats);
        return report.out.toString();
    }

    private void line(String format, Object... arguments) {
        out.append(String.format(Locale.ROOT, format, arguments));
    }

    private void summary(MachineStats stats, boolean torn) {
        double seconds = stats.wallNanos() / 1e9;
        line("instructions retired %,d%n", stats.instructions());
        line("wall time            %.2f s%n", seconds);
        line("virtual time         %.2f s%n", stats.virtualNanos() / 1e9);
        line("speed                %.1f MIPS%n", seconds == 0 ? 0 : stats.instructions() / seconds / 1e6);
        line("pages accepted       %,d%n", stats.pagesAccepted());
        line("pages populated      %,d%s%n", stats.pagesPopulated(), stats.pagesPopulated() == 0 ? ""
                : ": so many exits saved, if the guest uses all of them");
        line("pages converted      %,d%n", stats.pagesConverted());
        line("retries after BUSY   %,d%n", stats.busyRetries());
        if (torn) {
            line("private pages left   %,d%n", stats.pagesLeft());
        }
        line("trace hash           %016x%n", stats.traceHash());
    }

    private void costs(String title, String what, List<Cost> costs) {
        if (costs.isEmpty()) {
            return;
        }
        line("%n%s%n", title);
        line(COST_LINE, "", "count", "virtual s", "host s", "BUSY");
        long count = 0;
        long virtual = 0;
        long host = 0;
        long busy = 0;
        for (var cost : costs) {
            boolean guest = cost.name().equals(SeamcallLeaf.VP_ENTER.specificationName());
            line(COST_LINE, cost.name(), number(cost.count()), seconds(cost.virtualNanos()), seconds(cost.hostNanos()),
                    cost.busy() == 0 ? "" : number(cost.busy()));
            count += cost.count();
            virtual += guest ? 0 : cost.virtualNanos();
            host += cost.hostNanos();
            busy += cost.busy();
        }
        line(COST_LINE, "total", number(count), seconds(virtual), seconds(host), busy == 0 ? "" : number(busy));
        if (costs.stream().anyMatch(c -> c.failed() > c.busy())) {
            line("  failed otherwise:%s%n", failures(costs));
        }
        if (what.equals("module") && costs.stream().anyMatch(c -> c.name().equals(SeamcallLeaf.VP_ENTER.specificationName()))) {
            line("  The virtual time of TDH.VP.ENTER is the guest's and not in the total; its host time is without the guest's.%n");
        }
    }

    private static String failures(List<Cost> costs) {
        var text = new StringBuilder();
        costs.stream().filter(c -> c.failed() > c.busy()).forEach(c
                -> text.append(' ').append(c.name()).append(' ').append(number(c.failed() - c.busy())));
        return text.toString();
    }

    /// What a reader of a TD's exits asks first.
    private void explain(MachineStats stats) {
        if (stats.seamcalls(SeamcallLeaf.VP_ENTER.specificationName()) == 0) {
            return;
        }
        line("  EPT_VIOLATION is a fault of the Secure EPT: the TD touched private memory that was not mapped, and KVM added the page.%n");
        line("  TDVMCALL.* are requests of the TD itself, MMIO and IO for its devices.%n");
        line("  Virtual time runs from the exit to the next entry of the vCPU.%n");
    }

    private void threads(MachineStats stats) {
        if (stats.threads().isEmpty()) {
            return;
        }
        line("%nBy vCPU%n");
        line(THREAD_LINE, "", "instructions", "exits", "SEAMCALLs", "guest v. s", "guest h. s", "host s");
        for (var thread : stats.threads()) {
            line(THREAD_LINE, thread.name(), number(thread.instructions()), number(thread.exits()), number(thread.seamcalls()),
                    seconds(thread.guestVirtualNanos()), seconds(thread.guestHostNanos()), seconds(thread.hostNanos()));
        }
    }

    private static String number(long value) {
        return String.format(Locale.ROOT, "%,d", value);
    }

    private static String seconds(long nanos) {
        return String.format(Locale.ROOT, "%.3f", nanos / 1e9);
    }
}
