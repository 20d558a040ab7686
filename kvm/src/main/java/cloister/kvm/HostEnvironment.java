package cloister.kvm;

import cloister.cpu.LogicalProcessor;
import cloister.memory.PhysicalMemory;
import cloister.sim.Scheduler;
import java.util.List;

/// The machine on which KVM runs, as the host kernel knows it after boot.
public interface HostEnvironment {
    /// The logical processors; vCPU `i` runs on processor `i` modulo their number.
    List<LogicalProcessor> processors();

    /// All platform memory.
    PhysicalMemory memory();

    /// The scheduler of host threads, with the clock.
    Scheduler scheduler();

    /// First byte of the memory that the host may hand out, page-aligned.
    long freeStartPa();

    /// End of that memory.
    long freeEndPa();
}
