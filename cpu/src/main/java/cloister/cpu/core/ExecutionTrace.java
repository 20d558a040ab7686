package cloister.cpu.core;

import java.util.Locale;

/// The last places that execution went to, for finding out how a guest got where it is. Records every entry into a run of code:
/// calls, returns, indirect jumps, jumps to another page, interrupts; not the jumps within a page.
public final class ExecutionTrace {
    private final long[] targets;
    private final long[] counts;
    private long recorded;

    /// @param depth how many places to remember, a power of two
    public ExecutionTrace(int depth) {
        if (Integer.bitCount(depth) != 1) {
            throw new IllegalArgumentException("trace depth must be a power of two: " + depth);
        }
        targets = new long[depth];
        counts = new long[depth];
    }

    void record(long linear, long retired) {
        int at = (int) recorded++ & (targets.length - 1);
        targets[at] = linear;
        counts[at] = retired;
    }

    /// The remembered linear addresses with the retired-instruction counts on arrival, oldest first, one per line.
    @Override public String toString() {
        var out = new StringBuilder();
        for (long i = Math.max(0, recorded - targets.length); i < recorded; i++) {
            int at = (int) i & (targets.length - 1);
            out.append(String.format(Locale.ROOT, "%12d %016x%n", counts[at], targets[at]));
        }
        return out.toString();
    }
}
