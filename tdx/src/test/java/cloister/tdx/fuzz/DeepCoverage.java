package cloister.tdx.fuzz;

import static org.assertj.core.api.Assertions.assertThat;

import cloister.spec.tdx.SeamcallLeaf;
import cloister.spec.tdx.TdcallLeaf;
import cloister.spec.tdx.TdxStatus;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.EnumSet;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Set;

/// What a run of the fuzzer must have reached: `fuzz-statuses.txt` lists the statuses of each function by a mark. `+` every run of
/// CI's length sees it, `~` a long one does, `-` none can, for the reason that follows. A status without a mark is one that the
/// function must not give.
final class DeepCoverage {
    private static final Path TABLE = Path.of("src/test/resources/fuzz-statuses.txt");
    private static final int SUCCESSES = 5;

    private DeepCoverage() {
    }

    static void check(FuzzCoverage coverage) throws IOException {
        var problems = new ArrayList<String>();
        var known = new HashMap<String, Set<TdxStatus>>();
        for (var line : Files.readAllLines(TABLE)) {
            if (!line.isBlank() && !line.startsWith("#")) {
                var words = line.strip().split(" +");
                var statuses = known.computeIfAbsent(words[0], k -> EnumSet.noneOf(TdxStatus.class));
                for (int i = 1; i < words.length && !words[i].equals(":"); i++) {
                    var status = TdxStatus.valueOf(words[i].substring(1));
                    statuses.add(status);
                    compare(words[0], status, words[i].charAt(0), coverage.count(words[0], status), problems);
                }
            }
        }
        for (var name : functions()) {
            assertThat(known).containsKey(name);
            coverage.of(name).forEach((status, n) -> {
                if (!known.get(name).contains(status) && !(name.startsWith("TDH") && known.get("TDH").contains(status))) {
                    problems.add(name + " ends with " + status + " " + n + " times, which is not its status");
                }
            });
        }
        assertThat(problems).isEmpty();
    }

    private static void compare(String name, TdxStatus status, char mark, long seen, List<String> problems) {
        if (mark == '+' && seen < (status == TdxStatus.SUCCESS ? SUCCESSES : 1)) {
            problems.add(name + " ends with " + status + " " + seen + " times only");
        }
        if (mark == '-' && seen > 0) {
            problems.add(name + " ends with " + status + ", which counts as unreachable");
        }
    }

    private static Set<String> functions() {
        var names = new HashSet<String>();
        for (var leaf : SeamcallLeaf.values()) {
            if (leaf.number() < SeamcallLeaf.EXPORT_ABORT.number()) {
                names.add(leaf.specificationName());
            }
        }
        for (var leaf : TdcallLeaf.values()) {
            names.add(leaf.specificationName());
        }
        return names;
    }
}
