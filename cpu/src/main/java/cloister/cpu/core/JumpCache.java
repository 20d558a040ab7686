package cloister.cpu.core;

import java.util.Arrays;

/// One processor's short way from a linear address to decoded code: what the TLB is for data.
///
/// A pair of words an entry: the address, and its place in the [CodeCache] with the [#key] above it. Behind it a smaller table from
/// linear pages to decoded pages, for addresses that lost their entry to another.
final class JumpCache {
    private static final int ENTRIES = 1 << 14;
    static final int MASK = 2 * (ENTRIES - 1);
    private static final int PAGES = 1 << 9;
    private static final int CONTEXT_BITS = 12;
    private static final int EPOCHS = 1 << (31 - CONTEXT_BITS);

    final long[] words;
    private final long[] pageTags;
    private final long[] pageKeys;
    private final CodePage[] pages;
    /// What entries must carry to be valid: context, and how often everything was forgotten.
    long key;
    private int epoch;

    JumpCache() {
        this(ENTRIES, PAGES);
    }

    private JumpCache(int entries, int linearPages) {
        words = new long[2 * entries];
        pageTags = new long[linearPages];
        pageKeys = new long[linearPages];
        pages = new CodePage[linearPages];
        Arrays.fill(words, -1L); // a key of ones is none
        Arrays.fill(pageKeys, -1L);
    }

    /// That of a processor that decodes nothing.
    static JumpCache empty() {
        return new JumpCache(0, 0);
    }

    static int index(long linear) {
        return ((int) (linear ^ (linear >>> 14)) << 1) & MASK;
    }

    void put(long linear, int place) {
        int at = index(linear);
        words[at] = linear;
        words[at + 1] = (key << 32) | place;
    }

    /// The decoded page at the page of `linear`, or null when it is not known.
    CodePage page(long linear) {
        int at = (int) (linear >>> 12) & (PAGES - 1);
        return pageTags[at] == linear >>> 12 && pageKeys[at] == key ? pages[at] : null;
    }

    void put(long linear, CodePage page) {
        int at = (int) (linear >>> 12) & (PAGES - 1);
        pageTags[at] = linear >>> 12;
        pageKeys[at] = key;
        pages[at] = page;
    }

    /// From here on entries are for `context`, of 12 bits.
    void context(int context) {
        key = ((long) epoch << CONTEXT_BITS) | context;
    }

    /// Forgets everything.
    void clear() {
        if (++epoch == EPOCHS) {
            epoch = 0;
            Arrays.fill(words, -1L);
            Arrays.fill(pageKeys, -1L);
        }
        context((int) key & ((1 << CONTEXT_BITS) - 1));
    }
}
