package cloister.vmm;

import static org.assertj.core.api.Assertions.assertThat;

import cloister.vmm.observe.Cost;
import cloister.vmm.observe.TraceEvent;
import cloister.vmm.observe.TraceKind;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.List;
import org.junit.jupiter.api.Test;

/// The costs of a run agree with each other and with the events of its trace.
final class MachineStatsTest {
    private final List<TraceEvent> events = new ArrayList<>();

    private MachineStats run(VmType type, boolean timed) {
        var config = new MachineConfig().vmType(type).cpus(2).memoryBytes(32 << 20).timed(timed)
                .program(type == VmType.TDX ? TinyGuest.trustDomain() : TinyGuest.ordinaryVm()).observer(new MachineObserver() {
                    @Override public boolean wants(TraceKind kind) {
                        return true;
                    }

                    @Override public void event(TraceEvent event) {
                        events.add(event);
                    }
                });
        try (var machine = new Machine(config)) {
            assertThat(machine.run()).isEqualTo(new Outcome.PowerOff());
            machine.tearDown();
            return machine.stats();
        }
    }

    private long traced(Class<? extends TraceEvent> type, String name) {
        return events.stream().filter(type::isInstance).filter(e -> e.name().equals(name)).count();
    }

    private static long total(List<Cost> costs) {
        return costs.stream().mapToLong(Cost::count).sum();
    }

    @Test void countsOfATrustDomainAreThoseOfItsTrace() {
        var stats = run(VmType.TDX, true);
        assertThat(stats.seamcalls()).allSatisfy(cost
                -> assertThat(traced(TraceEvent.SeamcallReturn.class, cost.name())).as(cost.name()).isEqualTo(cost.count()));
        for (var call : List.of("MAP_GPA", "IO")) {
            assertThat(stats.exits("TDVMCALL." + call)).isEqualTo(traced(TraceEvent.TdcallEntry.class, call)).isPositive();
        }
        assertThat(total(stats.vmExits())).as("each TDH.VP.ENTER ends with one exit").isEqualTo(stats.seamcalls("TDH.VP.ENTER"));
        var exits = events.stream().filter(e -> e instanceof TraceEvent.GuestExit).count();
        assertThat(total(stats.vmExits()) + total(stats.moduleExits())).isEqualTo(exits);
        assertThat(stats.moduleExits()).filteredOn(c -> c.name().equals("TDG.MEM.PAGE.ACCEPT")).singleElement()
                .satisfies(c -> assertThat(c.count()).isEqualTo(events.stream().filter(e -> e instanceof TraceEvent.TdcallReturn call
                        && call.name().equals(c.name()) && !call.again()).count()));
        assertThat(events).as("pages whose acceptance made the host give them").anyMatch(e
                -> e instanceof TraceEvent.TdcallReturn call && call.again());
        assertThat(stats.exits("EPT_VIOLATION")).as("faults of the Secure EPT").isPositive();
    }

    @Test void timesAddUpToThatOfTheMachine() {
        var stats = run(VmType.TDX, true);
        assertThat(stats.vmExits()).allMatch(c -> c.hostNanos() > 0)
                .isSortedAccordingTo(Comparator.comparingLong(Cost::hostNanos).reversed());
        long guest = stats.threads().stream().mapToLong(t -> t.guestHostNanos()).sum();
        long running = stats.threads().stream().filter(t -> !t.name().equals("build")).mapToLong(t
                -> t.guestHostNanos() + t.hostNanos()).sum();
        assertThat(guest).isPositive();
        assertThat(running).isLessThanOrEqualTo(stats.wallNanos());
        assertThat(stats.threads().stream().mapToLong(t -> t.instructions()).sum()).isEqualTo(stats.instructions());
        assertThat(stats.threads().stream().mapToLong(t -> t.seamcalls()).sum()).isEqualTo(total(stats.seamcalls()));
        assertThat(stats.threads()).extracting(t -> t.name()).containsExactly("build", "vcpu0", "vcpu1");
    }

    @Test void anOrdinaryVmHasExitsOnlyAndNoTimesUnlessAsked() {
        var stats = run(VmType.DEFAULT, false);
        assertThat(total(stats.vmExits())).isEqualTo(events.stream().filter(e -> e instanceof TraceEvent.GuestExit).count()).isPositive();
        assertThat(stats.vmExits()).allMatch(c -> c.hostNanos() == 0);
        assertThat(stats.moduleExits()).isEmpty();
        assertThat(stats.seamcalls()).noneMatch(c -> c.name().startsWith("TDH.VP"));
    }

    @Test void everyCallThatBeganEndsAndTheLastOneNeverDoes() {
        run(VmType.TDX, false);
        long begun = events.stream().filter(e -> e instanceof TraceEvent.TdcallEntry).count();
        var ended = events.stream().filter(e -> e instanceof TraceEvent.TdcallReturn).map(e -> (TraceEvent.TdcallReturn) e).toList();
        assertThat(ended).hasSize((int) begun);
        assertThat(ended).filteredOn(e -> e.out() == null).isNotEmpty().anyMatch(e -> e.name().equals("IO"));
        assertThat(events).isSortedAccordingTo(Comparator.comparingLong(TraceEvent::nanos));
        assertThat(events.stream().filter(e -> e instanceof TraceEvent.ConsoleLine).map(e -> ((TraceEvent.ConsoleLine) e).text() + "\n"))
                .containsExactly(TinyGuest.TD_OUTPUT.split("(?<=\n)"));
    }
}
