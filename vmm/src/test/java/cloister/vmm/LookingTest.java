package cloister.vmm;

import static org.assertj.core.api.Assertions.assertThat;

import cloister.tdx.inspect.ModuleSnapshot;
import cloister.vmm.observe.TraceEvent;
import cloister.vmm.observe.TraceKind;
import java.util.ArrayList;
import java.util.EnumSet;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.function.Consumer;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/// Looking at a run never changes it: the same hash over all exits and SEAMCALLs, the same number of instructions, the same virtual time.
final class LookingTest {
    private static final Map<String, Run> PLAIN = new HashMap<>();

    private record Run(long hash, long instructions, long nanos, String console) {
    }

    private static Run run(VmType type, int cpus, Consumer<MachineConfig> with, Consumer<Machine> before) {
        var console = new StringBuilder();
        var config = new MachineConfig().vmType(type).cpus(cpus).program(BusyGuest.of(type)).memoryBytes(32 << 20)
                .console(octet -> console.append((char) octet));
        with.accept(config);
        try (var machine = new Machine(config)) {
            before.accept(machine);
            assertThat(machine.run()).isEqualTo(new Outcome.PowerOff());
            var stats = machine.stats();
            return new Run(stats.traceHash(), stats.instructions(), stats.virtualNanos(), console.toString());
        }
    }

    private static Run plain(VmType type, int cpus) {
        return PLAIN.computeIfAbsent(type + " " + cpus, key -> plainRun(type, cpus));
    }

    private static Run plainRun(VmType type, int cpus) {
        var run = run(type, cpus, config -> { }, machine -> { });
        assertThat(run.console()).isEqualTo("....");
        return run;
    }

    @Test void theGuestsOfThisTestUseEveryProcessor() {
        assertThat(plain(VmType.DEFAULT, 4).instructions()).isGreaterThan(3 * plain(VmType.DEFAULT, 1).instructions());
        // Those of a trust domain sleep in our firmware between looks at their mailbox.
        assertThat(plain(VmType.TDX, 4).instructions()).isGreaterThan(plain(VmType.TDX, 1).instructions());
    }

    @ParameterizedTest
    @CsvSource({"TDX, 1", "TDX, 2", "TDX, 4", "DEFAULT, 1", "DEFAULT, 4"})
    void aDumpAtATimeDoesNot(VmType type, int cpus) {
        var plain = plain(type, cpus);
        for (long micros : new long[] {2, 333}) {
            List<ModuleSnapshot> seen = new ArrayList<>();
            var looked = run(type, cpus, config -> { },
                    machine -> machine.inspectAt(machine.stats().virtualNanos() + micros * 1000, seen::add));
            assertThat(looked).as("+%d us", micros).isEqualTo(plain);
            assertThat(seen).hasSize(1);
        }
    }

    @ParameterizedTest
    @CsvSource({"TDX, 1", "TDX, 4", "DEFAULT, 1", "DEFAULT, 4"})
    void aTraceOfEverythingDoesNot(VmType type, int cpus) {
        var kinds = EnumSet.noneOf(TraceKind.class);
        var traced = run(type, cpus, config -> config.observer(new MachineObserver() {
            @Override public boolean wants(TraceKind kind) {
                return true;
            }

            @Override public void event(TraceEvent event) {
                kinds.add(event.kind());
            }
        }), machine -> { });
        assertThat(traced).isEqualTo(plain(type, cpus));
        assertThat(kinds).contains(TraceKind.EXITS, TraceKind.SCHED, TraceKind.USER);
        assertThat(kinds.contains(TraceKind.VMCALL)).isEqualTo(type == VmType.TDX);
    }

    @ParameterizedTest
    @CsvSource({"TDX, 1", "TDX, 4", "DEFAULT, 1", "DEFAULT, 4"})
    void measuringTimeDoesNot(VmType type, int cpus) {
        assertThat(run(type, cpus, config -> config.timed(true), machine -> { })).isEqualTo(plain(type, cpus));
    }

    @ParameterizedTest
    @CsvSource({"TDX, 1", "TDX, 4", "DEFAULT, 1", "DEFAULT, 4"})
    void aProfileDoesNot(VmType type, int cpus) {
        for (long period : new long[] {1, 100_000}) {
            long[] samples = new long[2];
            var profiled = run(type, cpus, config -> { }, machine -> machine.sample(period, (vcpu, rip, user, lstar, instructions) -> {
                samples[0]++;
                samples[1] += instructions;
            }));
            assertThat(profiled).as("every %d", period).isEqualTo(plain(type, cpus));
            assertThat(samples[0]).isBetween(period == 1 ? 10L : 2L, profiled.instructions() / period);
            assertThat(samples[1]).isBetween(profiled.instructions() / 2, profiled.instructions());
        }
    }
}
