package cloister.cpu.core;

import java.util.Arrays;

/// One processor's short way from a linear address to decoded code: what the TLB is for data. A pair of words an entry: the
/// address, and the place in the [CodeCache] with the context above it.
final class JumpCache {
    private static final int ENTRIES = 1 << 13;
    static final int MASK = 2 * (ENTRIES - 1);
    final long[] words = new long[2 * ENTRIES];

    JumpCache() {
        clear();
    }

    static int index(long linear) {
        return (int) (linear ^ linear >>> 12) << 1 & MASK;
    }

    void put(long linear, long context, int pc) {
        int at = index(linear);
        words[at] = linear;
        words[at + 1] = context << 32 | pc;
    }

    void clear() {
        Arrays.fill(words, -1L); // a context of ones is none
    }
}
