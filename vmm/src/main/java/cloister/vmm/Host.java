package cloister.vmm;

import cloister.kvm.Kvm;
import cloister.sim.Scheduler;
import cloister.sim.VirtualClock;

/// The host below the VMM: platform, scheduler, hypervisor.
record Host(VirtualClock clock, Scheduler scheduler, Kvm kvm) implements AutoCloseable {
    static Host create(MachineConfig config) {
        throw new UnsupportedOperationException("no platform yet");
    }

    /// Instructions retired by all LPs.
    long instructions() {
        return 0;
    }

    /// Hash over all SEAMCALLs and exits.
    long traceHash() {
        return 0;
    }

    @Override public void close() {
    }
}
