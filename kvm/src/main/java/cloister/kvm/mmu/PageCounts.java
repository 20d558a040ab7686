package cloister.kvm.mmu;

import cloister.sim.Persistent;
import cloister.sim.StateSink;

/// How many pages of each size a guest has mapped.
public final class PageCounts implements Persistent {
    private final long[] pagesBySize = new long[Mmu.MAX_HUGE_PAGE_LEVEL + 1];

    void change(int level, int delta) {
        if (level <= Mmu.MAX_HUGE_PAGE_LEVEL) {
            pagesBySize[level] += delta;
        }
    }

    /// How many of `level`, 1 for 4 KiB.
    public long mapped(int level) {
        return pagesBySize[level];
    }

    /// How many of all sizes.
    public long mapped() {
        long sum = 0;
        for (long count : pagesBySize) {
            sum += count;
        }
        return sum;
    }

    @Override public String stateName() {
        return "pages";
    }

    @Override public void describe(StateSink to) {
        to.words("pagesBySize", pagesBySize);
    }
}
