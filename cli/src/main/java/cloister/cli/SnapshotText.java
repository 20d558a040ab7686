package cloister.cli;

import cloister.tdx.inspect.Field;
import cloister.tdx.inspect.Fields;
import cloister.tdx.inspect.KeyIdRange;
import cloister.tdx.inspect.Lock;
import cloister.tdx.inspect.LpSnapshot;
import cloister.tdx.inspect.ModuleSnapshot;
import cloister.tdx.inspect.PackageSnapshot;
import cloister.tdx.inspect.PamtRange;
import cloister.tdx.inspect.SeptTable;
import cloister.tdx.inspect.TdSnapshot;
import cloister.tdx.inspect.TdmrSnapshot;
import cloister.tdx.inspect.VpSnapshot;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.TreeMap;
import java.util.stream.Collectors;
import java.util.stream.IntStream;

/// Snapshots as text for people: all that a snapshot holds. Every line says what it is of, so that grep finds it: `TD0.TDCS.TD_EPOCH`,
/// `TD0.VP1.VMCS.Guest_RIP`, `PAMT`, `TD0.SEPT`. Its format is no interface.
final class SnapshotText {
    private static final int VALUES_PER_LINE = 4;
    private static final int LONGEST_LINE = 132;
    private static final int SHORTEST_COLUMN = 32;
    private static final long KIB = 1024;
    private static final List<String> PAMT_SIZES = List.of("4K", "2M", "1G");

    private final StringBuilder out = new StringBuilder();

    private SnapshotText() {
    }

    /// The whole snapshot.
    static String of(ModuleSnapshot module) {
        var text = new SnapshotText();
        text.module(module);
        text.summary(module);
        text.details(module);
        text.pamt(module.pamt());
        for (int i = 0; i < module.tds().size(); i++) {
            text.td("TD" + i, module.tds().get(i));
        }
        return text.out.toString();
    }

    /// One trust domain.
    static String ofTd(int number, TdSnapshot td) {
        var text = new SnapshotText();
        text.td("TD" + number, td);
        return text.out.toString();
    }

    /// Only the PAMT.
    static String ofPamt(List<PamtRange> ranges) {
        var text = new SnapshotText();
        text.pamt(ranges);
        return text.out.toString();
    }

    /// Only the Secure EPTs of a trust domain.
    static String ofSept(int number, TdSnapshot td) {
        var text = new SnapshotText();
        text.sept("TD" + number, td);
        return text.out.toString();
    }

    private void line(String format, Object... arguments) {
        out.append(String.format(Locale.ROOT, format, arguments).stripTrailing()).append('\n');
    }

    // The module

    private void module(ModuleSnapshot module) {
        line("TDX module: %s, global KeyID %d, %d LPs initialised, %d busy", module.sysState(), module.globalKeyId(),
                module.initializedLps(), module.busyLps());
    }

    /// What a reader wants first: the key ids in use, the memory by page type, and of every trust domain its state.
    private void summary(ModuleSnapshot module) {
        var keys = new TreeMap<String, Integer>();
        module.keyOwnershipTable().forEach(r -> keys.merge(r.state(), r.last() - r.first() + 1, Integer::sum));
        line("SUMMARY KeyIDs: %s", counts(keys));
        var types = new TreeMap<String, Long>();
        module.pamt().forEach(r -> types.merge(r.type(), (r.end() - r.start()) / KIB, Long::sum));
        types.forEach((type, kib) -> line("SUMMARY %-10s %,12d KiB  %s", type, kib, StateWords.ofPage(type)));
        for (int i = 0; i < module.tds().size(); i++) {
            summary("SUMMARY TD" + i, module.tds().get(i));
        }
    }

    private void summary(String name, TdSnapshot td) {
        line("%s: %s, OP_STATE %s, %d vCPUs", name, td.lifecycleState(), td.opState(), td.vps().size());
        td.tdcs().fields().stream().filter(f -> f.name().equals("ATTRIBUTES") || f.name().equals("XFAM")).forEach(f
                -> line("%s: %s %s", name, f.name(), FieldWords.of(f.name(), f.values().getFirst())));
        var vcpus = new TreeMap<String, Integer>();
        td.vps().forEach(vp -> vcpus.merge(vp.state(), 1, Integer::sum));
        line("%s: vCPUs %s", name, counts(vcpus));
        long held = td.locks().stream().filter(l -> !l.isFree()).count() + td.vps().stream().filter(vp -> !vp.lock().isFree()).count();
        line("%s: %d locks held or asked for", name, held);
        if (td.secureEpt() != null) {
            var states = new TreeMap<String, Long>();
            td.secureEpt().tables().forEach(t -> t.entries().stream().filter(e -> e.table() == null).forEach(e
                    -> states.merge(e.state(), e.state().equals("FREE") ? 0 : (e.end() - e.gpa()) / KIB, Long::sum)));
            states.forEach((state, kib) -> line("%s: %s %s", name, state.equals("FREE") ? "the rest is FREE:"
                    : String.format(Locale.ROOT, "%,d KiB %s:", kib, state), StateWords.ofEntry(state)));
            line("%s: %d Secure-EPT pages", name, td.secureEpt().tables().count());
        }
    }

    private static String counts(Map<String, Integer> counts) {
        return counts.entrySet().stream().map(e -> e.getValue() + " " + e.getKey()).collect(Collectors.joining(", "));
    }

    private void details(ModuleSnapshot module) {
        module.processors().forEach(this::processor);
        module.packages().forEach(this::packageCycle);
        locks("MODULE", module.locks());
        fields("SYS", module.fields());
        line("");
        line("Key ownership table");
        module.keyOwnershipTable().forEach(this::keyIds);
        line("");
        line("TDMRs");
        module.tdmrs().forEach(this::tdmr);
    }

    private void processor(LpSnapshot lp) {
        line("LP%-3d package %d, %s%s%s%s", lp.lp(), lp.packageId(), lp.initialized() ? "initialised" : "not initialised",
                lp.function().isEmpty() ? ", outside the module" : ", in " + lp.function(),
                lp.tdvpr() == 0 ? "" : String.format(Locale.ROOT, ", runs TDVPR 0x%012x of TDR 0x%012x%s", lp.tdvpr(),
                        lp.tdr(), lp.vm() == 0 ? "" : " VM " + lp.vm()),
                lp.lastTdvpr() == -1 ? "" : String.format(Locale.ROOT, ", last TDVPR 0x%012x", lp.lastTdvpr()));
    }

    private void packageCycle(PackageSnapshot one) {
        line("PACKAGE%d global KeyID %s, %s %s, %s%s", one.index(), one.globalKey() ? "configured" : "not configured", one.lock().name(),
                held(one.lock()), one.interruptionPoint() == 0 ? "no cache write-back interrupted"
                : "cache write-back interrupted at " + one.interruptionPoint(),
                one.flushedKeyIds().isEmpty() ? "" : ", KeyIDs "
                        + one.flushedKeyIds().stream().map(String::valueOf).collect(Collectors.joining(" ")));
    }

    private void keyIds(KeyIdRange range) {
        line("KOT    KeyID %s %s", range.first() == range.last() ? String.format(Locale.ROOT, "%-6d", range.first())
                : String.format(Locale.ROOT, "%-6s", range.first() + "-" + range.last()), range.writeBackPackages() == 0 ? range.state()
                : String.format(Locale.ROOT, "%-8s not written back by packages %s", range.state(), packages(range.writeBackPackages())));
    }

    private static String packages(int bitmap) {
        return IntStream.range(0, Integer.SIZE).filter(i -> ((bitmap >>> i) & 1) != 0).mapToObj(String::valueOf)
                .collect(Collectors.joining(" "));
    }

    private void tdmr(TdmrSnapshot tdmr) {
        line("TDMR   0x%012x-0x%012x initialised to 0x%012x%s", tdmr.base(), tdmr.base() + tdmr.size(), tdmr.lastInitialized(),
                lock(tdmr.lock()));
        for (int i = 0; i < tdmr.pamtBases().size(); i++) {
            line("TDMR     PAMT_%s 0x%012x-0x%012x", PAMT_SIZES.get(i), tdmr.pamtBases().get(i), tdmr.pamtBases().get(i)
                    + tdmr.pamtSizes().get(i));
        }
        tdmr.reserved().forEach(area -> line("TDMR     reserved 0x%012x-0x%012x", area.base(), area.base() + area.size()));
    }

    private void pamt(List<PamtRange> ranges) {
        line("");
        line("PAMT ranges");
        for (var range : ranges) {
            line("PAMT   0x%012x-0x%012x %10d KiB %s %-8s%s%s%s", range.start(), range.end(), (range.end() - range.start()) / KIB,
                    range.pageSize(), range.type(), range.owner() == 0 ? "" : String.format(Locale.ROOT, " TDR 0x%012x", range.owner()),
                    range.bepoch() == 0 ? "" : String.format(Locale.ROOT, " BEPOCH 0x%x", range.bepoch()), lock(range.lock()));
        }
    }

    // Trust domains

    private void td(String name, TdSnapshot td) {
        line("");
        line("%s: TDR 0x%012x, %s, OP_STATE %s", name, td.tdrPage(), td.lifecycleState(), td.opState());
        locks(name, td.locks());
        td.measurements().forEach(m -> line("%s.%-5s %s", name, m.name(), m.digest()));
        fields(name + ".TDR", td.tdr());
        fields(name + ".TDCS", td.tdcs());
        for (int i = 0; i < td.vps().size(); i++) {
            vp(name + ".VP" + i, td.vps().get(i));
        }
        sept(name, td);
    }

    private void vp(String name, VpSnapshot vp) {
        line("");
        line("%s: TDVPR 0x%012x, %s, lock %s", name, vp.tdvprPage(), vp.state(), held(vp.lock()));
        fields(name + ".TDVPS", vp.tdvps());
        fields(name + ".VMCS", vp.tdVmcs());
        for (int i = 0; i < vp.l2Vmcs().size(); i++) {
            fields(name + ".L2_VMCS_" + (i + 1), vp.l2Vmcs().get(i));
        }
    }

    private void sept(String name, TdSnapshot td) {
        tree(name + ".SEPT", td.secureEpt());
        for (int i = 0; i < td.l2SecureEpts().size(); i++) {
            tree(name + ".L2_SEPT_" + (i + 1), td.l2SecureEpts().get(i));
        }
    }

    private void tree(String name, SeptTable root) {
        line("");
        if (root == null) {
            line("%s: none", name);
        } else {
            line("%s: root %s at 0x%012x", name, root.level(), root.page());
            table(name, root, 1);
        }
    }

    private void table(String name, SeptTable table, int depth) {
        for (var range : table.entries()) {
            long count = (range.end() - range.gpa()) / table.entryBytes();
            line("%s%s%-4s 0x%012x-0x%012x %-12s %s %s%s%s%s", name,
                    "  ".repeat(depth), table.level(), range.gpa(), range.end(), range.state(),
                    range.access(), range.hpa() == 0 ? "" : String.format(Locale.ROOT, "-> 0x%012x", range.hpa()),
                    range.step() < 0 ? " falling" : "",
                    count == 1 ? "" : String.format(Locale.ROOT, " (%d entries)", count), lock(range.lock()));
            if (range.table() != null) {
                table(name, range.table(), depth + 1);
            }
        }
    }

    // Locks and fields

    private void locks(String name, List<Lock> locks) {
        locks.forEach(lock -> line("%s.LOCK %-24s %s", name, lock.name(), held(lock)));
    }

    private static String held(Lock lock) {
        return lock.state() + (lock.holders().isEmpty() ? "" : " by LP " + lock.holders().stream().map(String::valueOf)
                .collect(Collectors.joining(" ")));
    }

    private static String lock(String state) {
        return state.equals(Lock.FREE) ? "" : ", lock " + state;
    }

    private void fields(String structure, Fields fields) {
        if (fields.fields().isEmpty()) {
            line("%s: none", structure);
        }
        int column = Math.max(SHORTEST_COLUMN, structure.length() + 2 + fields.fields().stream().mapToInt(f
                -> f.name().length()).max().orElse(0));
        fields.fields().forEach(field -> field(structure, field, column));
    }

    /// Equal values in a row are written once with their number.
    private void field(String structure, Field field, int column) {
        var values = field.values();
        String format = "0x%0" + 2 * field.elementBytes() + "x";
        var name = structure + "." + field.name();
        var words = new StringBuilder();
        int written = 0;
        for (int i = 0; i < values.size();) {
            int run = i + 1;
            while (run < values.size() && values.get(run).equals(values.get(i))) {
                run++;
            }
            if (written > 0) {
                words.append(written % VALUES_PER_LINE == 0 ? "\n" + String.format(Locale.ROOT, "%-" + column + "s", name) : " ");
            }
            words.append(String.format(Locale.ROOT, format, values.get(i)));
            if (run > i + 1) {
                words.append('*').append(run - i);
            }
            written++;
            i = run;
        }
        var meaning = values.size() == 1 ? FieldWords.of(field.name(), values.getFirst()) : "";
        line("%-" + column + "s%s%s", name, words, meaning.isEmpty() ? "" : " " + wrapped(meaning, name, column, words.length()));
    }

    /// Words that would make a line too long go on in the next one, behind the field's name.
    private static String wrapped(String meaning, String name, int column, int used) {
        var text = new StringBuilder();
        int length = column + used;
        for (var word : meaning.split(" ")) {
            if (length + 1 + word.length() > LONGEST_LINE) {
                text.append(String.format(Locale.ROOT, "\n%-" + column + "s", name));
                length = column + used;
                text.append(" ".repeat(used + 1));
            } else if (!text.isEmpty()) {
                text.append(' ');
            }
            text.append(word);
            length += 1 + word.length();
        }
        return text.toString();
    }
}
