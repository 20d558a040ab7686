package cloister.vmm;

import static org.assertj.core.api.Assertions.assertThat;

import cloister.sim.StateListing;
import cloister.tdx.inspect.LpSnapshot;
import cloister.vmm.observe.TraceEvent;
import cloister.vmm.observe.TraceKind;
import java.util.ArrayList;
import java.util.List;
import java.util.stream.IntStream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;
import org.junit.jupiter.params.provider.ValueSource;

/// Whole machines with our own guests: no network, milliseconds.
final class MachineTest {
    private final StringBuilder console = new StringBuilder();

    private MachineConfig config(VmType type) {
        byte[] program = type == VmType.TDX ? TinyGuest.trustDomain() : TinyGuest.ordinaryVm();
        return new MachineConfig().vmType(type).program(program).memoryBytes(32 << 20)
                .console(octet -> console.append((char) octet));
    }

    @Test void ordinaryVmPrintsAndPowersOff() {
        try (var machine = new Machine(config(VmType.DEFAULT))) {
            assertThat(machine.run()).isEqualTo(new Outcome.PowerOff());
            assertThat(console).hasToString(TinyGuest.VM_OUTPUT);
            assertThat(machine.stats().instructions()).isBetween(100L, 1000L);
            assertThat(machine.stats().exits("IO_INSTRUCTION")).isEqualTo(TinyGuest.VM_OUTPUT.length() + 1);
        }
    }

    @Test void trustDomainConvertsMemoryPowersOffAndLeavesNothingBehind() {
        try (var machine = new Machine(config(VmType.TDX).cpus(2))) {
            assertThat(machine.run()).isEqualTo(new Outcome.PowerOff());
            assertThat(console).hasToString(TinyGuest.TD_OUTPUT);
            var stats = machine.stats();
            assertThat(stats.exits("TDVMCALL.MAP_GPA")).isEqualTo(2);
            assertThat(List.of("TDH.VP.ENTER", "TDH.MEM.PAGE.AUG", "TDH.MEM.PAGE.REMOVE")).allMatch(leaf -> stats.seamcalls(leaf) > 0);
            assertThat(machine.tearDown()).as("pages not reclaimed").isZero();
        }
    }

    @Test void anExceptionWithoutHandlersIsATripleFaultInATrustDomainToo() {
        byte[] undefined = {0x0f, 0x0b};
        try (var machine = new Machine(config(VmType.TDX).program(undefined))) {
            assertThat(machine.run()).isInstanceOf(Outcome.TripleFault.class);
        }
    }

    @Test void sameSeedSameHash() {
        long[] hashes = new long[2];
        for (int i = 0; i < 2; i++) {
            try (var machine = new Machine(config(VmType.TDX).cpus(2).seed(7))) {
                machine.run();
                hashes[i] = machine.stats().traceHash();
            }
        }
        assertThat(hashes[0]).isEqualTo(hashes[1]);
    }

    /// Looking changes nothing, the seed decides everything, and the listing sees what a seed changes.
    @ParameterizedTest
    @EnumSource(VmType.class)
    void theStateOfAMachineIsListedAndRepeats(VmType type) {
        var states = new ArrayList<StateListing>();
        for (long seed : new long[] {7, 7, 8}) {
            try (var machine = new Machine(config(type).cpus(2).seed(seed))) {
                var before = machine.state();
                machine.run();
                var after = machine.state();
                assertThat(machine.state().differences(after)).isEmpty();
                assertThat(after.differences(before)).anyMatch(line -> line.startsWith("machine/platform/clock.now: "))
                        .anyMatch(line -> line.startsWith("machine/platform/memory.frame "))
                        .anyMatch(line -> line.contains("/lp0/cpu.retired: "));
                assertThat(after.entries().keySet()).anyMatch(name -> name.startsWith("machine/board/uart 3f8."))
                        .anyMatch(name -> name.startsWith("machine/board/rtc.")).anyMatch(name -> name.startsWith("machine/board/ioApic."))
                        .anyMatch(name -> name.startsWith("machine/") && name.contains("vcpu"));
                states.add(after);
            }
        }
        assertThat(states.get(0).differences(states.get(1))).isEmpty();
        assertThat(states.get(0).differences(states.get(2))).isNotEmpty();
        assertThat(states.get(0).entries()).hasSizeGreaterThan(300);
    }

    /// TDH.SYS.KEY.CONFIG and TDH.MNG.KEY.CONFIG on each package, caches written back on each before the KeyID is free again.
    @ParameterizedTest
    @ValueSource(ints = {2, 4, 8})
    void aTrustDomainOnSeveralPackagesLeavesNothingBehind(int packages) {
        try (var machine = new Machine(config(VmType.TDX).cpus(2).hostCpus(2 * packages).packages(packages))) {
            assertThat(machine.run()).isEqualTo(new Outcome.PowerOff());
            assertThat(machine.inspect().packages()).hasSize(packages);
            assertThat(machine.inspect().processors()).extracting(LpSnapshot::packageId)
                    .isEqualTo(IntStream.range(0, 2 * packages).map(lp -> lp / 2).boxed().toList());
            assertThat(machine.tearDown()).as("pages not reclaimed").isZero();
            var stats = machine.stats();
            assertThat(stats.seamcalls("TDH.SYS.KEY.CONFIG")).isEqualTo(packages);
            assertThat(stats.seamcalls("TDH.MNG.KEY.CONFIG")).isEqualTo(packages);
            assertThat(stats.seamcalls("TDH.PHYMEM.CACHE.WB")).isGreaterThanOrEqualTo(packages);
        }
    }

    @Test void observerHearsOnlyWhatItWants() {
        List<TraceEvent> events = new ArrayList<>();
        var config = config(VmType.DEFAULT).observer(new MachineObserver() {
            @Override public boolean wants(TraceKind kind) {
                return kind == TraceKind.USER;
            }

            @Override public void event(TraceEvent event) {
                events.add(event);
            }
        });
        try (var machine = new Machine(config)) {
            machine.run();
        }
        assertThat(events).hasSize(TinyGuest.VM_OUTPUT.length() + 1).allMatch(e -> e instanceof TraceEvent.UserExit exit
                && exit.reason().equals("IO") && exit.detail().startsWith("out"));
    }

    @Test void anEndlessLoopTimesOut() {
        byte[] loop = {(byte) 0xeb, (byte) 0xfe};
        try (var machine = new Machine(config(VmType.DEFAULT).program(loop))) {
            machine.requestStop();
            assertThat(machine.run()).isEqualTo(new Outcome.TimedOut());
        }
    }

    @Test void aHaltWithoutInterruptsStalls() {
        byte[] halt = {(byte) 0xfa, (byte) 0xf4};
        try (var machine = new Machine(config(VmType.DEFAULT).program(halt))) {
            assertThat(machine.run()).isEqualTo(new Outcome.Stalled());
        }
    }

    @Test void anExceptionWithoutHandlersIsATripleFault() {
        byte[] undefined = {0x0f, 0x0b};
        try (var machine = new Machine(config(VmType.DEFAULT).program(undefined))) {
            assertThat(machine.run()).isInstanceOfSatisfying(Outcome.TripleFault.class,
                    fault -> assertThat(fault.detail()).contains("RIP 0000000000100000"));
        }
    }
}
