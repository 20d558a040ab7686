package cloister.platform;

import cloister.sim.Scheduler;
import cloister.sim.SchedulingStrategy;

/// What to build a [Platform] from.
///
/// @param logicalProcessors 1..128
/// @param memoryBytes       physical memory, at least 64 MiB; rounded up to whole frames
/// @param seed              of all entropy
/// @param strategy          decides which host thread runs
/// @param pace              how time passes while every host thread waits
public record PlatformOptions(int logicalProcessors, long memoryBytes, long seed, SchedulingStrategy strategy,
        Scheduler.IdlePace pace) {
    static final long LEAST_MEMORY = 64L << 20;

    public PlatformOptions {
        if (logicalProcessors < 1 || logicalProcessors > 128) {
            throw new IllegalArgumentException("1 to 128 logical processors, not " + logicalProcessors);
        }
        if (memoryBytes < LEAST_MEMORY) {
            throw new IllegalArgumentException("at least 64 MiB of memory, not " + memoryBytes + " bytes");
        }
    }
}
