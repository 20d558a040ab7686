package cloister.tdx.legality;

import static cloister.tdx.legality.TdPair.BUILT;
import static cloister.tdx.legality.TdPair.RUNNING;
import static org.assertj.core.api.Assertions.assertThat;

import cloister.tdx.core.LockWord;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import org.junit.jupiter.api.Test;

/// Every lock that the functions on service TDs and migration take, held by another processor: the status names it, the attempt leaves what
/// the module leaves, and all other locks are free again. [TDX-BASE "Concurrency Restrictions and Enforcement"], [TDX-BASE "Host Priority"]
class TwoTdLockTest {
    private static final long BUSY = 0x8000_0200_0000_0000L;
    private static final long HASH_AT = 0x23_0000;
    private static final long LIST = 0x24_1000;

    /// Function, the register that names the TD, then locks in the order in which they are taken: whose (t the TD, s the service TD, v the
    /// VCPU) and which, for readers (sh) or alone (ex), and the operand of the status.
    private static final String RULES = """
            48 rcx  t.tdr:sh:1   t.op:sh:172 s.tdr:sh:2 s.op:sh:172 t.bind:ex:174 s.rtmr:sh:168
            49 rcx  t.tdr:sh:1   t.op:sh:172 t.bind:ex:174
            64 rcx  t.tdr:sh:1   t.op:ex:172
            65 rdx  t.tdr:sh:2   t.op:sh:172
            66 rdx  t.tdr:sh:2   t.op:sh:172
            68 rdx  t.tdr:sh:2   t.op:sh:172
            70 rcx  t.tdr:ex:1
            71 rcx  t.tdr:sh:1   t.op:ex:172
            72 rcx  t.tdr:sh:1   t.op:ex:172
            73 rcx  t.tdr:sh:1   t.op:ex:172
            75 rdx  t.tdr:sh:2   t.op:sh:172
            80 rcx  t.tdr:ex:1
            81 rcx  t.tdr:ex:1
            82 rcx  t.tdr:ex:1
            83 rdx  t.tdr:sh:2   t.op:sh:172
            84 rcx  t.tdr:ex:1
            85 rcx  t.tdr:ex:1
            86 rcx  t.tdr:ex:1
            96 rdx  t.tdr:sh:2   t.op:ex:172 t.mig:ex:173
            """;
    /// The same for the TD that runs, and its VCPU.
    private static final String RULES_OF_THE_RUNNING_TD = """
            66 rdx  t.op:sh:172 t.tree:sh:146
            72 rcx  t.op:ex:172 t.mig:ex:173
            74 vcpu v.tdvpr:ex:1 t.tdr:sh:128 t.op:sh:172
            87 vcpu v.tdvpr:ex:1 t.tdr:sh:128 t.op:sh:172
            """;

    private static LockWord word(TdPair tds, boolean built, String name) {
        var tdcs = built ? tds.builtTdcs() : tds.td.tdcs;
        return switch (name) {
            case "tdr" -> tds.td.machine.core.pageLock(built ? BUILT : RUNNING);
            case "tdvpr" -> tds.td.machine.core.pageLock(TdPair.RUNNING_VP);
            case "op" -> tdcs.lock(0xc);
            case "bind" -> tdcs.lock(0xd32);
            case "rtmr" -> tdcs.lock(0x3f0);
            case "tree" -> tdcs.lock(0xa0);
            case "mig" -> tdcs.lock(0x660);
            default -> throw new IllegalArgumentException(name);
        };
    }

    private static boolean hasHostPriority(String name) {
        return !name.equals("tree") && !name.equals("mig");
    }

    /// What is in the word after a failed attempt: a reader is counted, and a host that failed wants to be next.
    private static int after(int held, boolean shared, boolean hostPriority) {
        int reader = hostPriority ? 4 : 2;
        return (shared ? held + reader : held) | (hostPriority ? 2 : 0);
    }

    private static Map<String, Integer> others(TdPair tds, String except) {
        var free = new TreeMap<String, Integer>();
        for (var built : List.of(true, false)) {
            for (var name : List.of("tdr", "op", "bind", "rtmr", "tree", "mig")) {
                String id = (built ? "built." : "running.") + name;
                if (!id.equals(except) && word(tds, built, name).get() != 0) {
                    free.put(id, word(tds, built, name).get());
                }
            }
        }
        return free;
    }

    private interface Caller {
        long status(int leaf, String handle);
    }

    private void requireOrder(TdPair tds, String rules, boolean built, Map<String, Integer> idle, Caller caller) {
        rules.lines().map(line -> line.split(" +")).forEach(c -> {
            for (int i = 2; i < c.length; i++) {
                var lock = c[i].split("[.:]");
                boolean ofBuilt = lock[0].equals("t") && built;
                boolean shared = lock[2].equals("sh");
                boolean hostPriority = hasHostPriority(lock[1]);
                var word = word(tds, ofBuilt, lock[1]);
                int idleValue = word.get();
                var held = new ArrayList<>(List.of(1));
                if (!shared) {
                    held.add(hostPriority ? 4 : 2);
                }
                for (int value : held) {
                    word.set(value);
                    assertThat(caller.status(Integer.parseInt(c[0]), c[1])).as("leaf %s, %s is %d", c[0], c[i], value)
                            .isEqualTo(BUSY | Integer.parseInt(lock[3]));
                    assertThat(word.get()).as("what leaf %s leaves in %s", c[0], c[i]).isEqualTo(after(value, shared, hostPriority));
                    assertThat(others(tds, (ofBuilt ? "built." : "running.") + lock[1])).as("leaf %s behind %s", c[0], c[i])
                            .isEqualTo(without(idle, (ofBuilt ? "built." : "running.") + lock[1]));
                    word.set(idleValue);
                }
            }
        });
    }

    private static Map<String, Integer> without(Map<String, Integer> map, String key) {
        var rest = new TreeMap<>(map);
        rest.remove(key);
        return rest;
    }

    @Test void functionsOnATdThatIsBuilt() {
        try (var tds = new TdPair().create()) {
            var idle = others(tds, ""); // the TD that runs holds locks of its own
            requireOrder(tds, RULES, true, idle, (leaf, handle) -> {
                long second = leaf == 48 ? RUNNING : leaf == 49 ? HASH_AT : leaf == 96 ? TdPair.FREE : LIST;
                return handle.equals("rcx") ? tds.status(leaf, BUILT, second) : tds.status(leaf, second, BUILT);
            });
        }
    }

    @Test void functionsOnATdThatCouldRun() {
        try (var tds = new TdPair("run-debug-2")) {
            assertThat(tds.guest(0, 0)).as("TDG.VP.VMCALL leaves").isFalse();
            assertThat(others(tds.create(), "")).isEmpty();
            requireOrder(tds, RULES_OF_THE_RUNNING_TD, false, Map.of(), (leaf, handle) -> switch (handle) {
                case "rcx" -> tds.status(leaf, RUNNING, LIST);
                case "rdx" -> tds.status(leaf, LIST, RUNNING);
                default -> tds.status(leaf, TdPair.RUNNING_VP);
            });
        }
    }
}
