package cloister.tdx.legality;

import static org.assertj.core.api.Assertions.assertThat;

import cloister.tdx.core.Tdcs;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
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
        add(has, "pks", (attributes >> 30 & 1) != 0);
        add(has, "pt", (xfam >> 8 & 1) != 0);
        add(has, "cet", (xfam >> 11 & 3) == 3);
        add(has, "uli", (xfam >> 14 & 1) != 0);
        add(has, "lbr", (xfam >> 15 & 1) != 0);
        add(has, "dca", (basic[2] >> 18 & 1) != 0);
        add(has, "deadline", (basic[2] >> 24 & 1) != 0);
        add(has, "tsx", (extended[1] >> 4 & 1) != 0 || (extended[1] >> 11 & 1) != 0);
        add(has, "waitpkg", (extended[2] >> 5 & 1) != 0);
        add(has, "tme", (extended[2] >> 13 & 1) != 0);
        add(has, "pconfig", (extended[3] >> 18 & 1) != 0);
        add(has, "xfd", (td.cpuid(0xd, 1)[0] >> 4 & 1) != 0);
        add(has, "perfcaps", has.contains("perfmon") && has.contains("pt"));
        add(has, "metrics", has.contains("perfmon") && (td.platform.msrs.getOrDefault(0x345, 0L) >> 15 & 1) != 0);
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
        var got = td.replay.access(0, (int) msr, write, 0);
        return got.equals("pass") ? "native" : got.startsWith("0x") ? "value" : got.equals("ok") ? "done" : got;
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
