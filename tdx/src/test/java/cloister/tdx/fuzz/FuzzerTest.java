package cloister.tdx.fuzz;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import cloister.memory.PhysicalMemory;
import cloister.sim.Entropy;
import cloister.spec.tdx.OpState;
import cloister.tdx.core.KeyOwnership;
import cloister.tdx.core.PageType;
import cloister.tdx.core.PamtEntry;
import cloister.tdx.core.Sept;
import cloister.tdx.core.SeptEntry;
import cloister.tdx.core.Tdcs;
import cloister.tdx.core.Tdr;
import cloister.tdx.core.Tdvps;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.function.Consumer;
import java.util.function.Predicate;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

/// The TDX module under random calls, and the fuzzer under test itself.
final class FuzzerTest {
    private static final Path REGRESSIONS = Path.of("src/test/resources/fuzz");
    private static final long SEED = 20_260_101;
    private static final FuzzStep NOTHING = new FuzzStep(0, FuzzStep.Kind.CLOCK);

    @Test void millionCallsBreakNothing() throws IOException {
        var fuzzer = new Fuzzer(SEED);
        var finding = fuzzer.run(1_000_000, done -> { });
        assertThat(finding).as(() -> finding.message() + "\n" + String.join("\n", finding.sequence())).isNull();
        DeepCoverage.check(fuzzer.statuses());
    }

    static Stream<Path> regressions() throws IOException {
        return Files.list(REGRESSIONS);
    }

    @ParameterizedTest @MethodSource("regressions") void regressionStaysFixed(Path file) throws IOException {
        assertThat(Fuzzer.replay(Files.readAllLines(file))).isNull();
    }

    private record Sabotage(String name, String message, Consumer<FuzzRun> act) {
        @Override public String toString() {
            return name;
        }
    }

    private static PamtEntry page(FuzzRun run, int type) {
        for (int i = 0; i < FuzzPlatform.POOL_FRAMES; i++) {
            var entry = run.machine.pamt(FuzzPlatform.POOL + i * 4096L, 0);
            if (entry.type() == type) {
                return entry;
            }
        }
        throw new IllegalStateException("no page of type " + type);
    }

    private static Tdr runnable(FuzzRun run) {
        for (long pa : run.checker.tdrs) {
            var tdr = run.machine.module.tdr(pa);
            if (tdr.lifecycleState() == Tdr.KEYS_CONFIGURED && tdr.numTdcx() >= Tdcs.MIN_PAGES && !tdr.fatal()
                    && new Tdcs(run.machine.memory, tdr).opState() == OpState.RUNNABLE) {
                return tdr;
            }
        }
        throw new IllegalStateException("no runnable TD");
    }

    private static Tdcs tdcs(FuzzRun run) {
        return new Tdcs(run.machine.memory, runnable(run));
    }

    /// A VCPU of the runnable TD.
    private static Tdvps vcpu(FuzzRun run, Predicate<Tdvps> wanted) {
        for (long pa : run.checker.tdvprs) {
            var vcpu = Tdvps.rootOnly(run.machine.memory, pa, runnable(run).keyId());
            if (run.machine.pamt(pa, 0).ownerPa() == runnable(run).pa && wanted.test(vcpu)) {
                return vcpu;
            }
        }
        throw new IllegalStateException("no such VCPU");
    }

    /// A Secure EPT entry of the runnable TD on the way to GPA 0.
    private static Sept.Slot slot(FuzzRun run, int level) {
        return new Sept(run.machine.memory, runnable(run).keyId()).walk(tdcs(run).eptp(), 0, level);
    }

    static Stream<Sabotage> sabotages() {
        return Stream.concat(Stream.of(
                new Sabotage("owner", "", run -> page(run, PageType.REG).ownerPa(FuzzPlatform.POOL)),
                new Sabotage("type", "", run -> page(run, PageType.EPT).type(PageType.NDA)),
                new Sabotage("lost page", "nothing refers to it", run -> page(run, PageType.NDA).assign(PageType.REG, runnable(run).pa)),
                new Sabotage("page lock", "lock of", run -> page(run, PageType.REG).lock().set(1)),
                new Sabotage("reader left", "lock of", run -> page(run, PageType.TDR).lock().set(page(run, PageType.TDR).lock().get() + 4)),
                new Sabotage("tree lock", "Secure EPT lock", run -> tdcs(run).lock(Tdcs.SECURE_EPT_LOCK).set(2)),
                new Sabotage("operation state lock", "OP_STATE lock", run -> tdcs(run).lock(Tdcs.OP_STATE_LOCK).set(4)),
                new Sabotage("epoch lock", "epoch lock", run -> tdcs(run).lock(Tdcs.EPOCH_LOCK).set(1)),
                new Sabotage("binding lock", "service TD lock", run -> tdcs(run).lock(Tdcs.SERVTD_BINDINGS_LOCK).set(1)),
                new Sabotage("global lock", "global lock", run -> run.machine.module.globalLock.set(1)),
                new Sabotage("TDMR lock", "TDMR lock", run -> run.machine.module.tdmrs.getFirst().lock.set(1)),
                new Sabotage("KeyID table lock", "KeyID table lock", run -> run.machine.module.keys.lock.set(2)),
                new Sabotage("key state", "KeyID", run -> run.machine.module.keys.state(runnable(run).keyId(), KeyOwnership.State.FREE)),
                new Sabotage("key packages", "waits for packages",
                        run -> run.machine.module.keys.writeBackPackages(runnable(run).keyId(), 1)),
                new Sabotage("children", "counts", run -> runnable(run).addChildren(1)),
                new Sabotage("entry lock", "locked", run -> {
                    var slot = slot(run, 3);
                    slot.write((slot.value() & ~SeptEntry.LOCK & ~SeptEntry.HOST_PRIORITY) | SeptEntry.LOCK);
                })), moreSabotages());
    }

    private static Stream<Sabotage> moreSabotages() {
        return Stream.of(
                new Sabotage("epoch count", "parity", run -> tdcs(run).addRefcount(tdcs(run).epoch(), 1)),
                new Sabotage("VCPUs", "VCPUs", run -> tdcs(run).u32(Tdcs.NUM_VCPUS, 99)),
                new Sabotage("associated VCPUs", "associated", run -> tdcs(run).u32(Tdcs.NUM_ASSOC_VCPUS, 77)),
                new Sabotage("association", "associated", run -> vcpu(run, vcpu -> vcpu.u32(Tdvps.ASSOC_LPID) == Tdvps.NO_LP)
                        .u32(Tdvps.ASSOC_LPID, 2)),
                new Sabotage("VCPU index", "index", run -> vcpu(run, vcpu -> vcpu.state() == Tdvps.READY).u32(Tdvps.VCPU_INDEX, 9)),
                new Sabotage("VCPU state", "runs nowhere", run -> vcpu(run, vcpu -> vcpu.state() == Tdvps.READY).u8(Tdvps.STATE,
                        Tdvps.ACTIVE)),
                new Sabotage("MRTD", "MRTD", run -> tdcs(run).u8(Tdcs.MRTD, tdcs(run).u8(Tdcs.MRTD) ^ 1)),
                new Sabotage("ATTRIBUTES", "ATTRIBUTES", run -> tdcs(run).u64(Tdcs.ATTRIBUTES, 1L << 40)),
                new Sabotage("XFAM", "XFAM", run -> tdcs(run).u64(Tdcs.XFAM, 1)),
                new Sabotage("EPTP", "", run -> tdcs(run).u64(Tdcs.EPTP, tdcs(run).eptp() & ~7L)),
                new Sabotage("blocked in the future", "blocked in epoch", run -> {
                    var slot = slot(run, 3);
                    slot.write(SeptEntry.blocked(slot.value(), 3));
                    run.machine.pamt(SeptEntry.pa(slot.value()), 0).bepoch(tdcs(run).epoch() + 1);
                }),
                new Sabotage("no state", "has no state", run -> slot(run, 3).write(slot(run, 3).value() | (1L << 54))),
                new Sabotage("host readable", "encrypted", run -> {
                    long pa = PhysicalMemory.pa(runnable(run).tdcxHpa(4));
                    run.machine.memory.takeOwnership(pa, 4096, 0);
                }));
    }

    /// Runs until a TD is runnable and its first table exists.
    private static FuzzRun running() {
        for (int seed = 1;; seed++) {
            var run = new FuzzRun(FuzzPlatform.USUAL, new FuzzCoverage(), new Entropy(seed), false, m -> { });
            run.generate(new ArrayList<>(), 2500);
            try {
                page(run, PageType.REG);
                page(run, PageType.EPT);
                vcpu(run, vcpu -> vcpu.state() == Tdvps.READY);
                vcpu(run, vcpu -> vcpu.u32(Tdvps.ASSOC_LPID) == Tdvps.NO_LP);
                if (SeptEntry.isPresent(slot(run, 3).value()) && run.checker.ledger.knowsMrtd(runnable(run).pa)) {
                    return run;
                }
            } catch (IllegalStateException unsuitable) {
                // the next seed
            }
            run.close();
        }
    }

    @ParameterizedTest @MethodSource("sabotages") void checkerSees(Sabotage sabotage) {
        try (var run = running()) {
            run.checker.quick();
            assertThat(run.checker.sweep().claimed()).as("pages to look at").isPositive();
            sabotage.act.accept(run);
            assertThatThrownBy(() -> {
                run.checker.quick();
                run.checker.sweep();
            }).isInstanceOf(FuzzFinding.class).hasMessageContaining(sabotage.message);
        }
    }

    @Test void staleTranslationIsSeen() {
        var finding = new Fuzzer(7, FuzzerTest::loseMappedPage).run(200_000, done -> { });
        assertThat(finding.message()).contains("may still use a translation");
        assertThat(FuzzStep.parse(finding.sequence())).hasSizeLessThan(60);
        assertThat(Fuzzer.replay(finding.sequence())).as("without the saboteur").isNull();
    }

    /// Frees a page that a guest may use, as a module without TLB tracking would.
    private static void loseMappedPage(FuzzMachine machine) {
        for (int lp = 0; lp < machine.cpus.length; lp++) {
            if (machine.inGuest[lp] && machine.quiet()) {
                machine.cpus[lp].translations(machine.lp(lp).tdcs.eptp())
                        .forEach((gpa, pages) -> machine.leafEntry(pages[pages.length - 1]).type(PageType.NDA));
            }
        }
    }

    @Test void lostContentIsSeen() {
        var finding = new Fuzzer(11, FuzzerTest::changeContent).run(400_000, done -> { });
        assertThat(finding.message()).contains("where it left");
        assertThat(Fuzzer.replay(finding.sequence())).as("without the saboteur").isNull();
    }

    /// Changes a page of a guest, as a relocation that copies too little would.
    private static void changeContent(FuzzMachine machine) {
        for (int lp = 0; lp < machine.cpus.length; lp++) {
            if (machine.inGuest[lp] && machine.quiet()) {
                int key = machine.lp(lp).tdr.keyId();
                for (long[] pages : machine.cpus[lp].translations(machine.lp(lp).tdcs.eptp()).values()) {
                    long hpa = PhysicalMemory.hpa(pages[pages.length - 1], key);
                    machine.memory.write(hpa, 8, machine.memory.read(hpa, 8) + 1);
                }
            }
        }
    }

    private static List<FuzzStep> generated(int seed) {
        var steps = new ArrayList<FuzzStep>();
        try (var run = new FuzzRun(FuzzPlatform.USUAL, new FuzzCoverage(), new Entropy(seed), false, m -> { })) {
            run.generate(steps, 3000);
        }
        return steps;
    }

    @Test void sequencesReadAsTheyWereWritten() {
        var lines = generated(3).stream().map(FuzzStep::toString).toList();
        assertThat(FuzzStep.parse(lines).stream().map(FuzzStep::toString).toList()).isEqualTo(lines);
        assertThat(lines).anyMatch(line -> line.contains(" ~")).anyMatch(line -> line.contains(" ~w")).anyMatch(
                line -> line.contains("TDH.MNG.ADDCX rcx="));
        assertThat(Fuzzer.replay(lines)).isNull();
    }

    @Test void oneSeedGivesOneRun() {
        assertThat(generated(5).stream().map(FuzzStep::toString)).containsExactlyElementsOf(
                generated(5).stream().map(FuzzStep::toString).toList());
    }
}
