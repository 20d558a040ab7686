package cloister.cpu.core;

import java.util.Arrays;

/// What is decoded of one physical page in one decode mode ([Cpu#decodeMode]).
final class CodePage {
    /// Position in the cache's list.
    final int id;
    final long frame;
    final int mode;
    private final int[][] entries = new int[64][];
    /// The 64-byte lines from which code was decoded.
    long lines;
    private int[] runs = new int[16];
    private int runCount;

    CodePage(int id, long frame, int mode) {
        this.id = id;
        this.frame = frame;
        this.mode = mode;
    }

    /// The place of the instruction at `offset`, 0 when it is not decoded. See [CodeCache#PLACE_BITS].
    int entry(int offset) {
        int[] line = entries[offset >> 6];
        return line == null ? 0 : line[offset & 63];
    }

    void entry(int offset, int place) {
        int[] line = entries[offset >> 6];
        if (line == null) {
            line = entries[offset >> 6] = new int[64];
        }
        line[offset & 63] = place;
    }

    void addRun(int from, int to) {
        if (runCount + 2 > runs.length) {
            runs = Arrays.copyOf(runs, 2 * runs.length);
        }
        runs[runCount++] = from;
        runs[runCount++] = to;
    }

    /// Overwrites all code of this page, so that whoever is in it looks again.
    void erase(byte[] ops) {
        for (int i = 0; i < runCount; i += 2) {
            Arrays.fill(ops, runs[i], runs[i + 1], (byte) MicroOp.REFETCH);
        }
    }

    /// The lines that bytes `[offset, offset + length)` touch, as a mask.
    static long lineMask(int offset, long length) {
        int first = offset >> 6;
        int last = (int) Math.min(63, (offset + length - 1) >> 6);
        return -1L >>> (63 - (last - first)) << first;
    }
}
