package cloister.vmm.mmu;

import java.util.Arrays;
import java.util.HashMap;
import java.util.Map;

/// What the words of one piece of memory hold, as far as it is certain: each word has one value or, after a race, one of several. What
/// was never written is 0.
final class Words {
    static final int PER_PAGE = 8;
    /// Words that the VM beside this one and the VMM write; vCPUs write those with their numbers.
    static final int NEIGHBOUR = 6;
    static final int HOST = 7;
    private static final long[] ZERO = {0};
    private final Map<Integer, long[]> values = new HashMap<>();

    /// The possible values.
    long[] at(int page, int word) {
        return values.getOrDefault((page * PER_PAGE) + word, ZERO);
    }

    void set(int page, int word, long... possible) {
        values.put((page * PER_PAGE) + word, possible);
    }

    /// The word may have this value, too.
    void add(int page, int word, long value) {
        long[] before = at(page, word);
        if (Arrays.stream(before).noneMatch(v -> v == value)) {
            long[] more = Arrays.copyOf(before, before.length + 1);
            more[before.length] = value;
            set(page, word, more);
        }
    }

    /// Pages `[first, end)` hold zeros.
    void clear(int first, int end) {
        values.keySet().removeIf(key -> key >= first * PER_PAGE && key < end * PER_PAGE);
    }
}
