package cloister.cli;

import cloister.tdx.inspect.Field;
import cloister.tdx.inspect.Fields;
import cloister.tdx.inspect.Lock;
import cloister.tdx.inspect.ModuleSnapshot;
import cloister.tdx.inspect.PamtRange;
import cloister.tdx.inspect.SeptTable;
import cloister.tdx.inspect.TdSnapshot;
import cloister.tdx.inspect.VpSnapshot;
import java.util.List;
import java.util.Locale;

/// Snapshots as text for people. Its format is no interface.
final class SnapshotText {
    private static final int VALUES_PER_LINE = 4;
    private static final long KIB = 1024;

    private final StringBuilder out = new StringBuilder();

    private SnapshotText() {
    }

    /// The whole snapshot.
    static String of(ModuleSnapshot module) {
        var text = new SnapshotText();
        text.module(module);
        text.pamtRanges(module.pamt());
        for (int i = 0; i < module.tds().size(); i++) {
            text.td(i, module.tds().get(i));
        }
        return text.out.toString();
    }

    /// One trust domain.
    static String ofTd(int number, TdSnapshot td) {
        var text = new SnapshotText();
        text.td(number, td);
        return text.out.toString();
    }

    /// Only the PAMT.
    static String ofPamt(List<PamtRange> ranges) {
        var text = new SnapshotText();
        text.pamtRanges(ranges);
        return text.out.toString();
    }

    /// Only the Secure EPT of a trust domain.
    static String ofSept(int number, TdSnapshot td) {
        var text = new SnapshotText();
        text.sept(number, td);
        return text.out.toString();
    }

    private void line(String format, Object... arguments) {
        out.append(String.format(Locale.ROOT, format, arguments).stripTrailing()).append('\n');
    }

    private void module(ModuleSnapshot module) {
        line("TDX module: %s, %d LPs initialised, %d busy, global KeyID %d", module.sysState(), module.initializedLps(),
                module.busyLps(), module.globalKeyId());
        locks(module.locks());
        fields("global fields", module.fields());
        line("");
        line("Key ownership table");
        for (var range : module.keyOwnershipTable()) {
            line("  KeyID %d-%d %s%s", range.first(), range.last(), range.state(), range.writeBackPackages() == 0 ? ""
                    : ", caches of packages 0x%x not written back".formatted(range.writeBackPackages()));
        }
        line("");
        line("TDMRs");
        for (var tdmr : module.tdmrs()) {
            line("  %012x-%012x initialised to %012x%s", tdmr.base(), tdmr.base() + tdmr.size(), tdmr.lastInitialized(),
                    lock(tdmr.lock()));
            for (int i = 0; i < tdmr.pamtBases().size(); i++) {
                line("    PAMT %s %012x-%012x", List.of("4K", "2M", "1G").get(i), tdmr.pamtBases().get(i),
                        tdmr.pamtBases().get(i) + tdmr.pamtSizes().get(i));
            }
            tdmr.reserved().forEach(area -> line("    reserved %012x-%012x", area.base(), area.base() + area.size()));
        }
    }

    private void pamtRanges(List<PamtRange> ranges) {
        line("");
        line("PAMT");
        for (var range : ranges) {
            line("  %012x-%012x %10d KiB %s %-8s%s%s", range.start(), range.end(), (range.end() - range.start()) / KIB,
                    range.pageSize(), range.type(), range.owner() == 0 ? "" : " TDR %012x".formatted(range.owner()),
                    lock(range.lock()));
        }
    }

    private void td(int number, TdSnapshot td) {
        line("");
        line("TD %d: TDR %012x, %s, OP_STATE %s", number, td.tdrPage(), td.lifecycleState(), td.opState());
        locks(td.locks());
        td.measurements().forEach(m -> line("  %-5s %s", m.name(), m.digest()));
        fields("TDR", td.tdr());
        fields("TDCS", td.tdcs());
        td.vps().forEach(this::vp);
        sept(number, td);
    }

    private void vp(VpSnapshot vp) {
        line("");
        line("VP: TDVPR %012x, %s%s", vp.tdvprPage(), vp.state(), lock(vp.lock()));
        fields("TDVPS", vp.tdvps());
        fields("TD VMCS", vp.tdVmcs());
    }

    private void sept(int number, TdSnapshot td) {
        line("");
        if (td.secureEpt() == null) {
            line("TD %d: no Secure EPT", number);
        } else {
            line("Secure EPT of TD %d: root %s at %012x", number, td.secureEpt().level(), td.secureEpt().page());
            table(td.secureEpt(), 1);
        }
    }

    private void table(SeptTable table, int depth) {
        for (var range : table.entries()) {
            long count = (range.end() - range.gpa()) / table.entryBytes();
            line("%s%-4s %012x-%012x %-12s %s %s%s%s%s", "  ".repeat(depth), table.level(), range.gpa(), range.end(), range.state(),
                    range.access(), range.hpa() == 0 ? "" : "-> %012x".formatted(range.hpa()), range.step() < 0 ? " falling" : "",
                    count == 1 ? "" : " (%d entries)".formatted(count), lock(range.lock()));
            if (range.table() != null) {
                table(range.table(), depth + 1);
            }
        }
    }

    private void locks(List<Lock> locks) {
        for (var lock : locks) {
            if (!lock.state().equals(Lock.FREE)) {
                line("  %s %s", lock.name(), lock.state());
            }
        }
        if (locks.stream().allMatch(l -> l.state().equals(Lock.FREE))) {
            line("  all locks free");
        }
    }

    private static String lock(String state) {
        return state.equals(Lock.FREE) ? "" : ", lock " + state;
    }

    private void fields(String title, Fields fields) {
        line("  %s%s", title, fields.fields().isEmpty() ? ": none" : "");
        fields.fields().forEach(this::field);
    }

    /// Equal values in a row are written once with their number.
    private void field(Field field) {
        var values = field.values();
        String format = "%0" + 2 * field.elementBytes() + "x";
        var words = new StringBuilder();
        int written = 0;
        for (int i = 0; i < values.size();) {
            int run = i + 1;
            while (run < values.size() && values.get(run).equals(values.get(i))) {
                run++;
            }
            if (written > 0) {
                words.append(written % VALUES_PER_LINE == 0 ? "\n" + " ".repeat(42) : " ");
            }
            words.append(format.formatted(values.get(i)));
            if (run > i + 1) {
                words.append('*').append(run - i);
            }
            written++;
            i = run;
        }
        line("    %-37s %s", field.name(), words);
    }
}
