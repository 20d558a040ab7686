package cloister.kvm.host;

import static org.assertj.core.api.Assertions.assertThat;

import cloister.kvm.TestHost;
import cloister.sim.SwitchPoint;
import java.util.ArrayList;
import java.util.List;
import org.junit.jupiter.api.Test;

/// Who uses a processor when.
final class CpusTest {
    /// A call from another processor is an interrupt: the task that it interrupts does nothing there until it is over. Once a vCPU could
    /// be put, and the host's registers brought back, in the midst of a SEAMCALL that somebody else executed on its processor.
    @Test void aTaskIsPutBehindTheInterruptThatItsProcessorExecutes() {
        try (var machine = new TestHost(1)) {
            var host = new Host(machine.environment());
            var scheduler = machine.scheduler();
            List<String> order = new ArrayList<>();
            scheduler.spawn("vcpu", () -> {
                host.cpus().load(new PreemptNotifier() {
                    @Override public void schedIn(HostCpu cpu) {
                        order.add("in");
                    }

                    @Override public void schedOut(HostCpu cpu) {
                        order.add("out");
                    }
                });
                while (!order.contains("call begins")) {
                    scheduler.switchPoint(SwitchPoint.YIELD);
                }
                host.cpus().put();
                host.cpus().returnToUser();
            });
            scheduler.spawn("caller", () -> {
                while (order.isEmpty()) {
                    scheduler.switchPoint(SwitchPoint.YIELD);
                }
                host.cpus().call(host.cpus().get(0), cpu -> {
                    order.add("call begins");
                    for (int i = 0; i < 3; i++) {
                        scheduler.switchPoint(SwitchPoint.YIELD);
                    }
                    order.add("call ends");
                    return 0;
                });
            });
            scheduler.run();
            assertThat(scheduler.stalled()).isFalse();
            assertThat(order).containsExactly("in", "call begins", "call ends", "out");
        }
    }
}
