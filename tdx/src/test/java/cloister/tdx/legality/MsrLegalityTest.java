package cloister.tdx.legality;

import static org.assertj.core.api.Assertions.assertThat;

import cloister.tdx.core.Tdcs;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/// Reads and writes of every MSR that the MSR bitmaps cover, and of some beyond, by TDs of different configuration.
/// [TDX-BASE "MSR Handling"]
class MsrLegalityTest {
    private static final long HIGH = 0xc000_0000L;
    private static final long BITMAP = 0x2000;
    private static final long[] BEYOND = {0x2000, 0x4000_0000L, 0xbfff_ffffL, 0xc000_2000L, 0xffff_ffffL};

    /// For reads and writes what happens, then the MSRs. Of "a:b", a is the condition for a native access and b what happens otherwise;
    /// "b?" is #VE when the CPUID bit b is set and #GP when not; "value" and "done" are emulations. What is not here raises #VE.
    private static final String ROWS = """
            native        ve            10 bc c80
            native        native        48 49 10b 174-176 277 600 808-80c 80e 810-827 83f 1b01 c0000081 c0000082 c0000084 c0000100-c0000103
            native        done          da0
            native        ve            c0000080
            pconfig?      pconfig?      87
            dca?          dca?          1f8-1fa
            deadline?     deadline?     6e0
            tme?          tme?          981-984
            gp            gp            8c-8f 98-9b 9e 195 276 500 800 801 804-807 829-82e 831 840-8ff d90 d93
            value         native        bd 10a
            value         done          1d9
            value         gp            480 485-489 48b-492
            ve            gp            481-484 48a 802
            perfmon:gp    perfmon:gp    c1-c8 186-18d 1a6 1a7 309-310 38d-392 3f1 3f2 3f6 3f7 4c1-4c8
            perfmon:value ve            1a0
            perfcaps:value perfmon:gp   345
            metrics:gp    metrics:gp    329
            waitpkg:gp    waitpkg:gp    e1
            tsx:gp        tsx:gp        122
            xfd:gp        xfd:gp        1c4 1c5
            pt:gp         pt:gp         560 561 570-572 580-587
            cet:gp        cet:gp        6a0 6a2 6a4-6a8
            pks:gp        pks:gp        6e1
            uli:gp        uli:gp        985-98a
            lbr:gp        lbr:gp        1200-12ff 14ce 14cf 1500-16ff
            """;

    private static Map<Long, String[]> rules() {
        var rules = new HashMap<Long, String[]>();
        ROWS.lines().map(line -> line.split(" +")).forEach(c -> {
            for (int i = 2; i < c.length; i++) {
                var ends = c[i].split("-");
                for (long msr = Long.parseLong(ends[0], 16); msr <= Long.parseLong(ends[ends.length - 1], 16); msr++) {
                    assertThat(rules.put(msr, new String[] {c[0], c[1]})).as("second row of MSR %x", msr).isNull();
                }
            }
        });
        return rules;
    }

    /// What the TD has, from its parameters and from what CPUID tells it.
    static Set<String> features(RecordedTd td) {
        var has = new HashSet<String>();
        long attributes = td.tdcs.u64(Tdcs.ATTRIBUTES);
        long xfam = td.tdcs.u64(Tdcs.XFAM);
        int[] basic = td.cpuid(1, 0);
        int[] extended = td.cpuid(7, 0);
        add(has, "perfmon", attributes < 0);
        add(has, "pks", ((attributes >> 30) & 1) != 0);
        add(has, "pt", ((xfam >> 8) & 1) != 0);
        add(has, "cet", ((xfam >> 11) & 3) == 3);
        add(has, "uli", ((xfam >> 14) & 1) != 0);
        add(has, "lbr", ((xfam >> 15) & 1) != 0);
        add(has, "dca", ((basic[2] >> 18) & 1) != 0);
        add(has, "deadline", ((basic[2] >> 24) & 1) != 0);
        add(has, "tsx", ((extended[1] >> 4) & 1) != 0 || ((extended[1] >> 11) & 1) != 0);
        add(has, "waitpkg", ((extended[2] >> 5) & 1) != 0);
        add(has, "tme", ((extended[2] >> 13) & 1) != 0);
        add(has, "pconfig", ((extended[3] >> 18) & 1) != 0);
        add(has, "xfd", ((td.cpuid(0xd, 1)[0] >> 4) & 1) != 0);
        add(has, "perfcaps", has.contains("perfmon") && has.contains("pt"));
        add(has, "metrics", has.contains("perfmon") && ((td.platform.msrs.getOrDefault(0x345, 0L) >> 15) & 1) != 0);
        return has;
    }

    private static void add(Set<String> set, String name, boolean present) {
        if (present) {
            set.add(name);
        }
    }

    private static String expected(String rule, Set<String> has) {
        if (rule.endsWith("?")) {
            return has.contains(rule.substring(0, rule.length() - 1)) ? "ve" : "gp";
        }
        int colon = rule.indexOf(':');
        return colon < 0 ? rule : has.contains(rule.substring(0, colon)) ? "native" : rule.substring(colon + 1);
    }

    private static String access(RecordedTd td, long msr, boolean write) {
        return word(td.replay.access(0, (int) msr, write, 0));
    }

    /// Our word for a result of the recordings' format.
    private static String word(String result) {
        return result.equals("pass") ? "native" : result.startsWith("0x") ? "value" : result.equals("ok") ? "done" : result;
    }

    @ParameterizedTest
    @ValueSource(strings = {"minxfam", "maxfam", "perfmon", "debugpm", "cpuidfull", "cpuidpart"})
    void everyMsrIsNativeEmulatedOrRaisesWhatItMust(String name) {
        var rules = rules();
        var differences = new ArrayList<String>();
        try (var td = new RecordedTd("{\"op\":\"include\",\"file\":\"setup/run-" + name + "-2.jsonl\"}")) {
            var has = features(td);
            for (long msr : msrs()) {
                var rule = rules.getOrDefault(msr, new String[] {"ve", "ve"});
                for (int write = 0; write < 2; write++) {
                    var got = access(td, msr, write == 1);
                    var wanted = expected(rule[write], has);
                    if (!got.equals(wanted)) {
                        differences.add(String.format("%s of %x: %s, not %s", write == 0 ? "read" : "write", msr, got, wanted));
                    }
                }
            }
        }
        assertThat(differences).isEmpty();
    }

    /// The rules are what the recordings' sweeps show, MSR by MSR.
    @Test void rulesAgreeWithTheRecordings() throws IOException {
        var rules = rules();
        var setups = new HashMap<String, Set<String>>();
        long compared = 0;
        try (var files = Files.list(Path.of("..", "vectors", "1.5.06", "f"))) {
            for (var file : files.filter(f -> f.getFileName().toString().matches("msr-(rd|wr)-.*\\.jsonl")).sorted().toList()) {
                var lines = Files.readAllLines(file).stream().map(l -> JsonParser.parseString(l).getAsJsonObject()).toList();
                var setup = lines.stream().filter(l -> l.has("file")).findFirst().orElseThrow().get("file").getAsString();
                var has = setups.computeIfAbsent(setup, name -> {
                    try (var td = new RecordedTd("{\"op\":\"include\",\"file\":\"" + name + "\"}")) {
                        return features(td);
                    }
                });
                for (var line : lines) {
                    if (line.has("acc")) {
                        compared += agree(line, rules, has, file + ": ");
                    }
                }
            }
        }
        assertThat(compared).isGreaterThan(10_000);
    }

    private static int agree(JsonObject sweep, Map<Long, String[]> rules, Set<String> has, String where) {
        int write = sweep.get("acc").getAsString().equals("wr") ? 1 : 0;
        int count = 0;
        for (var element : sweep.getAsJsonArray("ranges")) {
            var range = element.getAsJsonArray();
            long last = Long.decode(range.get(1).getAsString());
            for (long msr = Long.decode(range.get(0).getAsString()); msr <= last; msr += sweep.get("stride").getAsInt()) {
                var rule = rules.getOrDefault(msr, new String[] {"ve", "ve"});
                assertThat(expected(rule[write], has)).as("%s%s of %x", where, sweep.get("acc"), msr)
                        .isEqualTo(word(range.get(2).getAsString()));
                count++;
            }
        }
        return count;
    }

    /// A TD with all that its parameters can have, and one for each feature that lacks it: only the MSRs of the rules.
    @ParameterizedTest
    @ValueSource(strings = {"-", "perfmon", "pks", "pt", "cet", "uli", "lbr", "amx", "dca", "deadline", "tsx", "waitpkg", "tme", "pconfig",
        "debug", "everything"})
    void eachFeatureOpensItsOwnMsrs(String lacking) {
        var rules = rules();
        var differences = new ArrayList<String>();
        try (var made = new MadeTd()) {
            configure(made, lacking);
            var result = made.init();
            assertThat(result.get(0)).as("leaf and sub-leaf %x", result.get(1)).isZero();
            made.enter(0);
            var has = features(made.td);
            assertThat(has).doesNotContain(lacking);
            for (long msr : rules.keySet()) {
                for (int write = 0; write < 2; write++) {
                    var got = access(made.td, msr, write == 1);
                    var wanted = expected(rules.get(msr)[write], has);
                    if (!got.equals(wanted)) {
                        differences.add(String.format("%s of %x: %s, not %s", write == 0 ? "read" : "write", msr, got, wanted));
                    }
                }
            }
        }
        assertThat(differences).isEmpty();
    }

    private static final Map<String, Integer> XFAM_BITS = Map.of("pt", 1 << 8, "cet", 3 << 11, "uli", 1 << 14, "lbr", 1 << 15,
            "amx", 3 << 17);
    /// CPUID leaf, register and bits of a feature.
    private static final Map<String, int[]> CPUID_BITS = Map.of("dca", new int[] {1, 2, 1 << 18}, "deadline", new int[] {1, 2, 1 << 24},
            "tsx", new int[] {7, 1, (1 << 4) | (1 << 11)}, "waitpkg", new int[] {7, 2, 1 << 5}, "tme", new int[] {7, 2, 1 << 13},
            "pconfig", new int[] {7, 3, 1 << 18});

    private static void configure(MadeTd made, String lacking) {
        if (lacking.equals("everything")) {
            made.xfam(3);
            return;
        }
        long attributes = made.td.seamcall(34, 0, 0x1900_0003_0000_0000L, 0, 0).get(8);
        attributes &= ~((1L << 29) | (1 << 16)); // not migratable; the single-step defence does not use the counters that the TD has
        attributes &= ~switch (lacking) {
            case "debug" -> 1;
            case "pks" -> 1 << 30;
            case "perfmon" -> 1L << 63;
            default -> 0;
        };
        made.attributes(attributes);
        made.xfam(made.td.seamcall(34, 0, 0x1900_0003_0000_0002L, 0, 0).get(8) & ~XFAM_BITS.getOrDefault(lacking, 0));
        for (int i = 0; i < MadeTd.CONFIGURABLE; i++) {
            long leaf = made.td.seamcall(34, 0, 0x9900_0003_0000_0400L + i, 0, 0).get(8) & 0xffff_ffffL;
            for (int r = 0; r < 4; r++) {
                long pair = made.td.seamcall(34, 0, 0x9900_0003_0000_0500L + 2 * i + r / 2, 0, 0).get(8);
                boolean flags = (leaf == 1 && r >= 2) || (leaf == 7 && r >= 1) || (leaf == 0xd && r == 0);
                made.cpuid(i, r, flags ? (int) (pair >>> (32 * (r & 1))) : 0);
            }
            int[] feature = CPUID_BITS.getOrDefault(lacking, new int[] {-1, 0, 0});
            if (leaf == feature[0]) {
                made.cpuid(i, feature[1], made.cpuid(i, feature[1]) & ~feature[2]);
            }
        }
    }

    /// The x2APIC id is there once the guest has enumerated its topology.
    @ParameterizedTest
    @ValueSource(booleans = {false, true})
    void x2apicId(boolean enumerated) {
        try (var made = new MadeTd()) {
            assertThat(made.init().get(0)).isZero();
            made.enter(0x1234);
            made.td.tdcs.u64(Tdcs.TD_CTLS, enumerated ? 1 << 1 : 0);
            assertThat(made.td.replay.access(0, 0x802, false, 0)).isEqualTo(enumerated ? "0x1234" : "ve");
            assertThat(made.td.replay.access(0, 0x802, true, 0x1234)).isEqualTo("gp");
        }
    }

    private static List<Long> msrs() {
        var all = new ArrayList<Long>();
        for (long msr = 0; msr < BITMAP; msr++) {
            all.add(msr);
            all.add(HIGH + msr);
        }
        for (long msr : BEYOND) {
            all.add(msr);
        }
        return all;
    }
}
