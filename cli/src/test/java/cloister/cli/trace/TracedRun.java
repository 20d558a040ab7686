package cloister.cli.trace;

import cloister.vmm.Machine;
import cloister.vmm.MachineConfig;
import cloister.vmm.MachineObserver;
import cloister.vmm.TinyGuest;
import cloister.vmm.VmType;
import cloister.vmm.observe.TraceEvent;
import cloister.vmm.observe.TraceKind;
import java.util.ArrayList;
import java.util.List;

/// All events of a small trust domain with two vCPUs, torn down at the end.
final class TracedRun {
    static final List<TraceEvent> EVENTS = record();

    private TracedRun() {
    }

    private static List<TraceEvent> record() {
        var events = new ArrayList<TraceEvent>();
        var config = new MachineConfig().vmType(VmType.TDX).cpus(2).program(TinyGuest.trustDomain()).memoryBytes(32 << 20)
                .observer(new MachineObserver() {
                    @Override public boolean wants(TraceKind kind) {
                        return true;
                    }

                    @Override public void event(TraceEvent event) {
                        events.add(event);
                    }
                });
        try (var machine = new Machine(config)) {
            machine.run();
            machine.tearDown();
        }
        return List.copyOf(events);
    }
}
