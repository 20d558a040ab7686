package cloister.tdx.fuzz;

import cloister.memory.PhysicalMemory;
import cloister.memory.plain.PlainAccess;
import cloister.sim.Entropy;
import java.util.HashMap;
import java.util.Map;

/// Pages of the VMM whose content changes while the module reads it.
final class HostileMemory {
    private static final int ONE_IN = 6;

    private final PhysicalMemory memory;
    /// By page, the source of its changes.
    private final Map<Long, Entropy> pages = new HashMap<>();

    HostileMemory(PhysicalMemory memory) {
        this.memory = memory;
    }

    /// The page at `pa` becomes hostile, or peaceful with seed 0.
    void page(long pa, long seed) {
        if (seed == 0) {
            pages.remove(pa & -4096);
        } else {
            pages.put(pa & -4096, new Entropy(seed));
        }
    }

    void clear() {
        pages.clear();
    }

    void beforeRead(long pa, long bytes) {
        var random = pages.isEmpty() ? null : pages.get(pa & -4096);
        if (random != null && random.nextInt(ONE_IN) == 0) {
            long at = pa + random.nextInt((int) bytes);
            memory.write(at, 1, memory.readPlain(PlainAccess.SILICON, at, 1) ^ (1L << random.nextInt(8)));
        }
    }
}
