package cloister.kvm;

import cloister.cpu.LogicalProcessor;
import cloister.cpu.sys.Cpuid;
import cloister.cpu.vmx.VmcsRegions;
import cloister.memory.HostMemory;
import cloister.memory.PhysicalMemory;
import cloister.sim.Entropy;
import cloister.sim.RoundRobin;
import cloister.sim.Scheduler;
import cloister.sim.SchedulingStrategy;
import cloister.sim.VirtualClock;
import java.util.ArrayList;
import java.util.List;

/// A small machine: real logical processors, no TDX module.
public final class TestHost implements AutoCloseable {
    public static final long MEMORY = 64L << 20;
    private final PhysicalMemory memory = new PhysicalMemory(MEMORY, 32);
    private final Scheduler scheduler;
    private final List<LogicalProcessor> processors = new ArrayList<>();

    public TestHost(int count) {
        this(count, new RoundRobin());
    }

    public TestHost(int count, SchedulingStrategy strategy) {
        this(count, strategy, true);
    }

    /// @param selfSnoop whether the caches snoop their own processor's accesses
    public TestHost(int count, SchedulingStrategy strategy, boolean selfSnoop) {
        scheduler = new Scheduler(new VirtualClock(1_000_000_000L), strategy, Scheduler.IdlePace.SKIP);
        var regions = new VmcsRegions(memory);
        for (int i = 0; i < count; i++) {
            processors.add(new LogicalProcessor(i, memory, scheduler, new Entropy(i), new Cpuid(count, 1, selfSnoop), regions));
        }
    }

    public List<LogicalProcessor> processors() {
        return processors;
    }

    public PhysicalMemory memory() {
        return memory;
    }

    public Scheduler scheduler() {
        return scheduler;
    }

    /// What KVM gets of it.
    public HostEnvironment environment() {
        return new HostEnvironment(processors, new HostMemory(memory), scheduler, 1L << 20, MEMORY);
    }

    @Override public void close() {
        memory.close();
    }
}
