package cloister.platform;

import cloister.sim.Scheduler;
import cloister.sim.SchedulingStrategy;

/// What to build a [Platform] from.
///
/// @param logicalProcessors 1..128, of all packages
/// @param packages          1..8, all with the same number of processors
/// @param memoryBytes       physical memory, at least 64 MiB; rounded up to whole frames
/// @param seed              of all entropy
/// @param strategy          decides which host thread runs
/// @param pace              how time passes while every host thread waits
/// @param selfSnoop         whether CPUID.1:EDX.SS says that caches snoop their own processor's accesses; without it Linux does not
///                          enable TDX
public record PlatformOptions(int logicalProcessors, int packages, long memoryBytes, long seed, SchedulingStrategy strategy,
        Scheduler.IdlePace pace, boolean selfSnoop) {
    static final long LEAST_MEMORY = 64L << 20;

    public PlatformOptions {
        if (logicalProcessors < 1 || logicalProcessors > 128) {
            throw new IllegalArgumentException("1 to 128 logical processors, not " + logicalProcessors);
        }
        if (packages < 1 || packages > 8 || logicalProcessors % packages != 0) {
            throw new IllegalArgumentException(logicalProcessors + " logical processors in " + packages + " packages");
        }
        if (memoryBytes < LEAST_MEMORY) {
            throw new IllegalArgumentException("at least 64 MiB of memory, not " + memoryBytes + " bytes");
        }
    }

    /// One package, with self-snoop.
    public PlatformOptions(int logicalProcessors, long memoryBytes, long seed, SchedulingStrategy strategy, Scheduler.IdlePace pace) {
        this(logicalProcessors, 1, memoryBytes, seed, strategy, pace, true);
    }
}
