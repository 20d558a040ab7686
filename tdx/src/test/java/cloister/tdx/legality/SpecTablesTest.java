package cloister.tdx.legality;

import static org.assertj.core.api.Assertions.assertThat;

import cloister.memory.PhysicalMemory;
import cloister.spec.tdx.SeamcallLeaf;
import cloister.spec.tdx.SeptState;
import cloister.spec.tdx.TdcallLeaf;
import cloister.spec.tdx.TdxStatus;
import cloister.tdx.core.Gpa;
import cloister.tdx.core.PageType;
import cloister.tdx.core.Sept;
import cloister.tdx.core.Tdcs;
import cloister.tdx.core.Tdr;
import cloister.tdx.replay.RecordedMemory;
import cloister.tdx.replay.VectorMachine;
import cloister.tdx.replay.VectorPlatform;
import cloister.tdx.replay.VectorReplay;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.EnumSet;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.zip.GZIPInputStream;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.TestReporter;

/// The legality tables of `spec`, cell by cell against the recording: each recorded call tells of one cell whether the real module let
/// the function run. The state that the cell is of is the one that the replay has when the call comes.
class SpecTablesTest {
    private static final Path VECTORS = Path.of("..", "vectors", "1.5.06");
    private static final List<String> FAMILIES = List.of("b", "c", "d", "f", "g", "h");

    /// Functions by where they name their TD.
    private static final Set<Integer> TDR_IN_RCX = Set.of(11, 13, 17, 21, 38, 48, 49, 64, 70, 71, 72, 73, 80, 81, 82, 84, 85, 86);
    private static final Set<Integer> TDR_IN_RDX = Set.of(1, 2, 3, 5, 6, 7, 10, 12, 14, 15, 16, 23, 25, 29, 30, 39, 65, 66, 68, 75, 83, 96);
    private static final Set<Integer> TDVPR_IN_RCX = Set.of(0, 18, 22, 26, 43, 74, 87);
    private static final Set<Integer> TDVPR_IN_RDX = Set.of(4);

    /// Functions on a Secure EPT entry that RCX names with its level, and those on the page that a GPA is in.
    private static final Set<Integer> BY_LEVEL = Set.of(2, 3, 5, 6, 7, 15, 23, 25, 29, 30, 39);
    private static final Set<Integer> BY_ADDRESS = Set.of(12, 14, 16);
    private static final Set<Integer> GUEST_FUNCTIONS = Set.of(6, 23, 24);

    /// How the module says that the state of an entry is wrong for a function.
    private static final Set<TdxStatus> REFUSED = EnumSet.of(TdxStatus.EPT_ENTRY_STATE_INCORRECT, TdxStatus.EPT_ENTRY_NOT_PRESENT,
            TdxStatus.GPA_RANGE_ALREADY_BLOCKED, TdxStatus.PAGE_ALREADY_ACCEPTED, TdxStatus.PAGE_SIZE_MISMATCH);
    /// How it says what it looks at only when the state is right.
    private static final Set<TdxStatus> RAN = EnumSet.of(TdxStatus.SUCCESS, TdxStatus.TLB_TRACKING_NOT_DONE,
            TdxStatus.GPA_RANGE_NOT_BLOCKED, TdxStatus.EPT_INVALID_PROMOTE_CONDITIONS, TdxStatus.EPT_PAGE_NOT_FREE);
    /// What begins the names of statuses that come after the check of the operation state.
    private static final List<String> AFTER_OP_STATE = List.of("SUCCESS", "EPT_", "GPA_", "TLB_", "PREVIOUS_TLB_", "METADATA_");
    private static final int EPT_VIOLATION = 48;

    /// A place in a table.
    private record Cell(String function, String state) {
    }

    /// Recorded calls of a cell.
    private static final class Evidence {
        private int ran;
        private int refused;
        private final boolean allowed;
        private String first = "";

        Evidence(boolean allowed) {
            this.allowed = allowed;
        }

        void add(boolean let, String file) {
            ran += let ? 1 : 0;
            refused += let ? 0 : 1;
            first = first.isEmpty() && let != allowed ? file : first;
        }

        /// Whether the table says what was recorded.
        boolean agrees() {
            return allowed ? refused == 0 : ran == 0;
        }

        @Override public String toString() {
            return "the table says " + (allowed ? "yes" : "no") + ", the module let " + ran + " calls run and refused " + refused
                    + ", first in "
                    + first;
        }
    }

    private static final Map<Cell, Evidence> OP_STATES = new HashMap<>();
    private static final Map<Cell, Evidence> ENTRIES = new HashMap<>();
    private static String scenario;

    @BeforeAll static void replay() throws IOException {
        var platforms = new HashMap<String, VectorPlatform>();
        var memories = new HashMap<String, RecordedMemory>();
        var setups = new HashMap<String, List<JsonObject>>();
        for (var family : FAMILIES) {
            try (var files = Files.list(VECTORS.resolve(family))) {
                for (var file : files.map(f -> family + "/" + f.getFileName().toString().replace(".gz", "")).sorted().toList()) {
                    scenario = file;
                    var lines = lines(file);
                    var name = lines.getFirst().get("platform").getAsString();
                    var platform = platforms.computeIfAbsent(name, SpecTablesTest::platform);
                    var memory = memories.computeIfAbsent(name, n -> new RecordedMemory(platform));
                    new VectorReplay(f -> f.equals(file) ? lines : setups.computeIfAbsent(f, SpecTablesTest::lines), platform, memory,
                            SpecTablesTest::look).run(file);
                }
            }
        }
        memories.values().forEach(RecordedMemory::close);
    }

    @Test void everyRecordedCellOfFunctionsByOperationStateAgrees(TestReporter reporter) {
        agree("leaf x OP_STATE", OP_STATES, Set.of(), 100, reporter);
    }

    @Test void everyRecordedCellOfFunctionsByEntryStateAgrees(TestReporter reporter) {
        // An entry that maps a table is one for TDH.MEM.SEPT.ADD only with the flag that says so.
        agree("leaf x Secure EPT state", ENTRIES, Set.of(new Cell("TDH.MEM.SEPT.ADD", "NL_MAPPED")), 100, reporter);
    }

    private static void agree(String table, Map<Cell, Evidence> evidence, Set<Cell> either, int atLeast, TestReporter reporter) {
        long calls = evidence.values().stream().mapToLong(e -> e.ran + e.refused).sum();
        reporter.publishEntry(table, evidence.size() + " cells have evidence in " + calls + " recorded calls");
        assertThat(evidence.entrySet().stream().filter(e -> !e.getValue().agrees() && !either.contains(e.getKey())).toList()).isEmpty();
        assertThat(evidence).hasSizeGreaterThanOrEqualTo(atLeast);
    }

    private static VectorPlatform platform(String name) {
        try {
            return new VectorPlatform(JsonParser.parseString(Files.readString(VECTORS.resolve("platform-" + name
                    + ".json"))).getAsJsonObject());
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }

    private static List<JsonObject> lines(String name) {
        var packed = VECTORS.resolve(name + ".gz");
        try (var in = Files.exists(packed) ? new GZIPInputStream(Files.newInputStream(packed))
                : Files.newInputStream(VECTORS.resolve(name));
                var reader = new BufferedReader(new InputStreamReader(in, StandardCharsets.UTF_8))) {
            return reader.lines().map(line -> JsonParser.parseString(line).getAsJsonObject()).toList();
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }

    private static void look(JsonObject step, VectorMachine machine) {
        if (step.has("leaf") && Recorded.is(step, "seamcall")) {
            var leaf = SeamcallLeaf.of(step.get("leaf").getAsInt());
            if (leaf != null) {
                host(leaf, step, machine);
            }
        } else if (step.has("leaf") && Recorded.is(step, "tdcall") && GUEST_FUNCTIONS.contains(step.get("leaf").getAsInt())) {
            guest(TdcallLeaf.of(step.get("leaf").getAsInt()), step, machine);
        }
    }

    private static void host(SeamcallLeaf leaf, JsonObject step, VectorMachine machine) {
        var status = step.has("guest") ? TdxStatus.SUCCESS : status(step.getAsJsonObject("out"));
        long rcx = register(step, "rcx", 0);
        long rdx = register(step, "rdx", 0);
        int number = leaf.number();
        var tdcs = TDR_IN_RCX.contains(number) ? tdcs(machine, rcx) : TDR_IN_RDX.contains(number) ? tdcs(machine, rdx)
                : TDVPR_IN_RCX.contains(number) ? tdcs(machine, owner(machine, rcx))
                : TDVPR_IN_RDX.contains(number) ? tdcs(machine, owner(machine, rdx)) : null;
        if (status == null || tdcs == null) {
            return;
        }
        var state = tdcs.opState();
        if (status == TdxStatus.OP_STATE_INCORRECT || AFTER_OP_STATE.stream().anyMatch(status.name()::startsWith)) {
            OP_STATES.computeIfAbsent(new Cell(leaf.specificationName(), state.name()), c -> new Evidence(state.allows(leaf)))
                    .add(status != TdxStatus.OP_STATE_INCORRECT, scenario);
        }
        if ((BY_LEVEL.contains(number) || BY_ADDRESS.contains(number)) && state.anyInitialized()) {
            var entry = entry(machine, tdcs, rcx, BY_LEVEL.contains(number));
            if (entry != null) {
                evidence(leaf.specificationName(), entry, entry.allows(leaf), status);
            }
        }
    }

    private static void guest(TdcallLeaf leaf, JsonObject step, VectorMachine machine) {
        int lp = step.has("lp") ? step.get("lp").getAsInt() : 0;
        var tdcs = machine.core.lp(machine.cpus[lp]).tdcs;
        if (tdcs == null) {
            return;
        }
        long rcx = register(step, "rcx", machine.cpus[lp].registers()[1]);
        var entry = entry(machine, tdcs, rcx, leaf != TdcallLeaf.MEM_PAGE_ATTR_RD);
        boolean violation = step.has("out") && register(step.getAsJsonObject("out"), "rax") == EPT_VIOLATION;
        var status = violation ? TdxStatus.EPT_ENTRY_STATE_INCORRECT
                : step.has("guest") ? status(step.getAsJsonObject("guest").getAsJsonObject("gpr")) : null;
        if (entry != null && status != null) {
            evidence(leaf.specificationName(), entry, entry.allows(leaf), status);
        }
    }

    private static long register(JsonObject step, String name, long absent) {
        return step.has("in") && step.getAsJsonObject("in").has(name) ? Recorded.number(step.getAsJsonObject("in"), name) : absent;
    }

    private static long register(JsonObject out, String name) {
        return out.has(name) && !out.get(name).getAsString().equals("*") ? Recorded.number(out, name) : -1;
    }

    /// The status in RAX; null when it is not known.
    private static TdxStatus status(JsonObject registers) {
        return registers.has("rax") && registers.get("rax").getAsString().equals("*") ? null
                : TdxStatus.of(registers.has("rax") ? Recorded.number(registers, "rax") : 0);
    }

    private static void evidence(String function, SeptState state, boolean allowed, TdxStatus status) {
        if (RAN.contains(status) || REFUSED.contains(status)) {
            ENTRIES.computeIfAbsent(new Cell(function, state.name()), c -> new Evidence(allowed)).add(RAN.contains(status), scenario);
        }
    }

    /// The state of the entry that a function looks at; null when it does not come to look at one.
    private static SeptState entry(VectorMachine machine, Tdcs tdcs, long rcx, boolean byLevel) {
        var slot = new Sept(machine.memory, PhysicalMemory.keyId(tdcs.pages[0])).walk(tdcs.eptp(), Gpa.gpa(rcx), byLevel
                ? Gpa.level(rcx) : 0);
        return byLevel && slot.level() != Gpa.level(rcx) ? null : SeptState.of(slot.value());
    }

    private static long owner(VectorMachine machine, long tdvpr) {
        try {
            var entry = machine.core.module.pamt.implicit(tdvpr & 0x000f_ffff_ffff_f000L, 0);
            return entry.type() == PageType.TDVPR ? entry.ownerPa() : 0;
        } catch (RuntimeException none) {
            return 0;
        }
    }

    private static Tdcs tdcs(VectorMachine machine, long pa) {
        try {
            var module = machine.core.module;
            if (module.pamt.implicit(pa, 0).type() != PageType.TDR) {
                return null;
            }
            var tdr = module.tdr(pa);
            return tdr.lifecycleState() == Tdr.KEYS_CONFIGURED && tdr.numTdcx() >= Tdcs.MIN_PAGES ? new Tdcs(machine.memory, tdr) : null;
        } catch (RuntimeException none) {
            return null;
        }
    }
}
