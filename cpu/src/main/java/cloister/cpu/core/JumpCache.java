package cloister.cpu.core;

import java.util.Arrays;

/// One processor's short way from a linear address to decoded code: what the TLB is for data. A pair of words an entry: address
/// with the context in the top 12 bits (which a canonical address does not need), place in the [CodeCache].
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

    static long key(long linear, int context) {
        return linear ^ (long) context << 52;
    }

    void put(long linear, int context, int pc) {
        int at = index(linear);
        words[at] = key(linear, context);
        words[at + 1] = pc;
    }

    void clear() {
        Arrays.fill(words, 0x7ff5_5555_5555_5555L);
    }
}
