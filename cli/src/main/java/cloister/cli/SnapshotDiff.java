package cloister.cli;

import cloister.tdx.inspect.Fields;
import cloister.tdx.inspect.Lock;
import cloister.tdx.inspect.ModuleSnapshot;
import cloister.tdx.inspect.SeptTable;
import cloister.tdx.inspect.TdSnapshot;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Objects;
import java.util.TreeMap;
import java.util.TreeSet;

/// What differs between two snapshots, one line each: fields and states by their names, the key ownership table, the PAMT and Secure
/// EPTs by ranges of addresses that changed alike.
final class SnapshotDiff {
    private static final String NOTHING = "nothing";

    private final StringBuilder out = new StringBuilder();

    private SnapshotDiff() {
    }

    /// The differences; empty when there are none.
    static String of(ModuleSnapshot before, ModuleSnapshot after) {
        var diff = new SnapshotDiff();
        diff.values("", values(before), values(after));
        diff.ranges("KOT KeyID", false, keyIds(before), keyIds(after));
        diff.ranges("PAMT", true, pamt(before), pamt(after));
        for (int i = 0; i < Math.max(before.tds().size(), after.tds().size()); i++) {
            diff.td("TD" + i, i < before.tds().size() ? before.tds().get(i) : null, i < after.tds().size() ? after.tds().get(i) : null);
        }
        return diff.out.toString();
    }

    private void line(String name, String before, String after) {
        out.append(String.format(Locale.ROOT, "%-40s %s -> %s%n", name, before, after));
    }

    private void values(String prefix, Map<String, String> before, Map<String, String> after) {
        var names = new TreeSet<>(before.keySet());
        names.addAll(after.keySet());
        for (var name : names) {
            if (!Objects.equals(before.get(name), after.get(name))) {
                line(prefix + name, before.getOrDefault(name, NOTHING), after.getOrDefault(name, NOTHING));
            }
        }
    }

    private static Map<String, String> values(ModuleSnapshot module) {
        var values = new TreeMap<String, String>();
        values.put("MODULE.state", module.sysState());
        values.put("MODULE.initializedLps", "" + module.initializedLps());
        values.put("MODULE.busyLps", "" + module.busyLps());
        module.processors().forEach(lp -> values.put("LP" + lp.lp(),
                lp.function().isEmpty() ? "outside the module" : "in " + lp.function()));
        locks("MODULE", module.locks(), values);
        fields("SYS", module.fields(), values);
        return values;
    }

    private void td(String name, TdSnapshot before, TdSnapshot after) {
        values(name, values(before), values(after));
        ranges(name + ".SEPT", true, sept(before), sept(after));
    }

    private static Map<String, String> values(TdSnapshot td) {
        var values = new TreeMap<String, String>();
        if (td != null) {
            values.put(".lifecycleState", td.lifecycleState());
            values.put(".opState", td.opState());
            td.measurements().forEach(m -> values.put("." + m.name(), m.digest()));
            locks("", td.locks(), values);
            fields(".TDR", td.tdr(), values);
            fields(".TDCS", td.tdcs(), values);
            for (int i = 0; i < td.vps().size(); i++) {
                var vp = td.vps().get(i);
                values.put(".VP" + i + ".state", vp.state());
                locks(".VP" + i, List.of(vp.lock()), values);
                fields(".VP" + i + ".TDVPS", vp.tdvps(), values);
                fields(".VP" + i + ".VMCS", vp.tdVmcs(), values);
            }
        }
        return values;
    }

    private static void locks(String prefix, List<Lock> locks, Map<String, String> values) {
        locks.forEach(lock -> values.put(prefix + ".LOCK " + lock.name(), lock.state()));
    }

    private static void fields(String prefix, Fields fields, Map<String, String> values) {
        for (var field : fields.fields()) {
            for (int i = 0; i < field.values().size(); i++) {
                String words = FieldWords.of(field.name(), field.values().get(i));
                values.put(prefix + "." + field.name() + (field.values().size() == 1 ? "" : "[" + i + "]"),
                        "0x" + Long.toHexString(field.values().get(i)) + (words.isEmpty() ? "" : " (" + words + ")"));
            }
        }
    }

    // Ranges

    /// A range that is the same all over.
    private record Range(long start, long end, String what) {
    }

    private static List<Range> keyIds(ModuleSnapshot module) {
        return module.keyOwnershipTable().stream().map(r -> new Range(r.first(), r.last() + 1L, r.state())).toList();
    }

    private static List<Range> pamt(ModuleSnapshot module) {
        return module.pamt().stream().map(r -> new Range(r.start(), r.end(), r.pageSize() + " " + r.type()
                + (r.owner() == 0 ? "" : " TDR 0x" + Long.toHexString(r.owner())))).toList();
    }

    private static List<Range> sept(TdSnapshot td) {
        return td == null || td.secureEpt() == null ? List.of() : td.secureEpt().tables().flatMap(t -> t.entries().stream()
                .filter(e -> e.table() == null).map(e -> new Range(e.gpa(), e.end(), describe(t, e)))).toList();
    }

    private static String describe(SeptTable table, SeptTable.SeptRange entry) {
        boolean free = entry.state().equals("FREE");
        return free ? "FREE" : table.level() + " " + entry.state() + " " + entry.access();
    }

    /// Goes through the borders of both; neighbours that changed alike are one line.
    private void ranges(String name, boolean hexadecimal, List<Range> before, List<Range> after) {
        var a = byStart(before);
        var b = byStart(after);
        var borders = new TreeSet<Long>();
        for (var ranges : List.of(before, after)) {
            ranges.forEach(r -> borders.addAll(List.of(r.start, r.end)));
        }
        var changed = new ArrayList<String[]>();
        var places = new ArrayList<long[]>();
        for (var border : borders) {
            var end = borders.higher(border);
            String was = at(a, border);
            String is = at(b, border);
            if (end == null || was.equals(is)) {
                continue;
            }
            int last = changed.size() - 1;
            if (last >= 0 && places.get(last)[1] == border && changed.get(last)[0].equals(was) && changed.get(last)[1].equals(is)) {
                places.get(last)[1] = end;
            } else {
                changed.add(new String[] {was, is});
                places.add(new long[] {border, end});
            }
        }
        for (int i = 0; i < changed.size(); i++) {
            String place = hexadecimal ? String.format(Locale.ROOT, "0x%012x-0x%012x", places.get(i)[0], places.get(i)[1])
                    : places.get(i)[0] + "-" + (places.get(i)[1] - 1);
            line(name + " " + place, changed.get(i)[0], changed.get(i)[1]);
        }
    }

    private static TreeMap<Long, Range> byStart(List<Range> ranges) {
        var map = new TreeMap<Long, Range>(Long::compareUnsigned);
        ranges.forEach(r -> map.put(r.start, r));
        return map;
    }

    private static String at(TreeMap<Long, Range> ranges, long place) {
        var floor = ranges.floorEntry(place);
        return floor == null || Long.compareUnsigned(place, floor.getValue().end) >= 0 ? NOTHING : floor.getValue().what;
    }
}
