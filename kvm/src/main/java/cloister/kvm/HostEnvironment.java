package cloister.kvm;

import cloister.cpu.LogicalProcessor;
import cloister.memory.HostMemory;
import cloister.sim.Scheduler;
import java.util.List;

/// The machine on which KVM runs, as the host kernel knows it after boot.
///
/// @param processors vCPU `i` runs on processor `i` modulo their number
/// @param memory all platform memory
/// @param scheduler the scheduler of host threads, with the clock
/// @param freeStartPa first byte of the memory that the host may hand out, page-aligned
/// @param freeEndPa end of that memory
public record HostEnvironment(List<LogicalProcessor> processors, HostMemory memory, Scheduler scheduler, long freeStartPa,
                              long freeEndPa) {
}
