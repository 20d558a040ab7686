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
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.function.Consumer;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

/// The TDX module under random calls, and the fuzzer under test itself.
final class FuzzerTest {
    private static final Path REGRESSIONS = Path.of("src/test/resources/fuzz");

    @Test void millionCallsBreakNothing() {
        var fuzzer = new Fuzzer(20_260_101);
        var finding = fuzzer.run(1_000_000, done -> { });
        assertThat(finding).as(() -> finding.message() + "\n" + String.join("\n", finding.sequence())).isNull();
        assertThat(fuzzer.successes()).as("deep runs").contains("TDH.VP.ENTER", "TDH.MEM.PAGE.REMOVE", "TDH.MEM.SEPT.REMOVE",
                "TDH.MEM.PAGE.RELOCATE", "TDH.MEM.PAGE.DEMOTE", "TDH.MEM.PAGE.PROMOTE", "TDH.PHYMEM.PAGE.RECLAIM",
                "TDH.MNG.KEY.FREEID", "TDG.MEM.PAGE.ACCEPT", "TDG.VP.VMCALL");
    }

    static Stream<Path> regressions() throws IOException {
        return Files.list(REGRESSIONS);
    }

    @ParameterizedTest @MethodSource("regressions") void regressionStaysFixed(Path file) throws IOException {
        assertThat(Fuzzer.replay(Files.readAllLines(file))).isNull();
    }

    private record Sabotage(String name, String message, Consumer<Fuzzer.Run> act) {
        @Override public String toString() {
            return name;
        }
    }

    private static PamtEntry page(Fuzzer.Run run, int type) {
        for (int i = 0; i < FuzzMachine.POOL_FRAMES; i++) {
            var entry = run.machine.pamt(FuzzMachine.POOL + i * 4096L, 0);
            if (entry.type() == type) {
                return entry;
            }
        }
        throw new IllegalStateException("no page of type " + type);
    }

    private static Tdr runnable(Fuzzer.Run run) {
        for (long pa : run.checker.tdrs) {
            var tdr = run.machine.module.tdr(pa);
            if (tdr.lifecycleState() == Tdr.KEYS_CONFIGURED && tdr.numTdcx() >= Tdcs.MIN_PAGES && !tdr.fatal()
                    && new Tdcs(run.machine.memory, tdr).opState() == OpState.RUNNABLE) {
                return tdr;
            }
        }
        throw new IllegalStateException("no runnable TD");
    }

    private static Tdcs tdcs(Fuzzer.Run run) {
        return new Tdcs(run.machine.memory, runnable(run));
    }

    static Stream<Sabotage> sabotages() {
        return Stream.of(
                new Sabotage("owner", "", run -> page(run, PageType.REG).ownerPa(FuzzMachine.POOL)),
                new Sabotage("type", "", run -> page(run, PageType.EPT).type(PageType.NDA)),
                new Sabotage("lost page", "nothing refers to it", run -> page(run, PageType.NDA).assign(PageType.REG, runnable(run).pa)),
                new Sabotage("page lock", "lock of", run -> page(run, PageType.REG).lock().set(1)),
                new Sabotage("reader left", "lock of", run -> page(run, PageType.TDR).lock().set(page(run, PageType.TDR).lock().get() + 4)),
                new Sabotage("tree lock", "Secure EPT lock", run -> tdcs(run).lock(Tdcs.SECURE_EPT_LOCK).set(2)),
                new Sabotage("global lock", "global lock", run -> run.machine.module.globalLock.set(1)),
                new Sabotage("key state", "KeyID", run -> run.machine.module.keys.state(runnable(run).keyId(), KeyOwnership.State.FREE)),
                new Sabotage("children", "counts", run -> runnable(run).addChildren(1)),
                new Sabotage("epoch count", "parity", run -> tdcs(run).addRefcount(tdcs(run).epoch(), 1)),
                new Sabotage("host readable", "encrypted", run -> {
                    long pa = PhysicalMemory.pa(runnable(run).tdcxHpa(4));
                    run.machine.memory.takeOwnership(pa, 4096, 0);
                }),
                new Sabotage("entry lock", "locked", run -> {
                    var tdr = runnable(run);
                    var slot = new Sept(run.machine.memory, tdr.keyId()).walk(tdcs(run).eptp(), 0, 3);
                    slot.write(slot.value() & ~SeptEntry.LOCK & ~SeptEntry.HOST_PRIORITY | SeptEntry.LOCK);
                }));
    }

    /// Runs until a TD is runnable and its first table exists.
    private static Fuzzer.Run running() {
        for (int seed = 1;; seed++) {
            var run = new Fuzzer.Run(new FuzzMachine(new FuzzCoverage()), new Entropy(seed), new ArrayList<>(), m -> { });
            run.generate(1500);
            try {
                var tdr = runnable(run);
                page(run, PageType.REG);
                page(run, PageType.EPT);
                var top = new Sept(run.machine.memory, tdr.keyId()).walk(tdcs(run).eptp(), 0, 3);
                if (!SeptEntry.isFree(top.value())) {
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
            run.checker.quick(new FuzzStep(0, FuzzStep.Kind.FILL, 0, 0));
            run.checker.sweep();
            sabotage.act.accept(run);
            assertThatThrownBy(() -> {
                run.checker.quick(new FuzzStep(0, FuzzStep.Kind.FILL, 0, 0));
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
            if (machine.inGuest[lp]) {
                machine.cpus[lp].translations(machine.lp(lp).tdcs.eptp())
                        .forEach((gpa, pages) -> machine.leafEntry(pages[pages.length - 1]).type(PageType.NDA));
            }
        }
    }

    @Test void sequencesReadAsTheyWereWritten() {
        var run = new Fuzzer.Run(new FuzzMachine(new FuzzCoverage()), new Entropy(3), new ArrayList<>(), m -> { });
        run.generate(2000);
        run.close();
        var lines = run.steps().stream().flatMap(step -> step.toString().lines()).toList();
        assertThat(FuzzStep.parse(lines).stream().flatMap(step -> step.toString().lines()).toList()).isEqualTo(lines);
        assertThat(lines).anyMatch(line -> line.startsWith("+"));
        assertThat(Fuzzer.replay(lines)).isNull();
    }
}
