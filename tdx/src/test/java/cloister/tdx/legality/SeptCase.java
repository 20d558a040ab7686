package cloister.tdx.legality;

import java.util.List;

/// States of Secure EPT entries as the tests know them: from what the bits of an entry mean, not from the tables of `spec`.
/// [TDX-BASE "Secure EPT Entry State"], [TDX-MIG "Secure EPT Entry State"]
///
/// @param number the number that functions report
/// @param bits   L leaf, P pending, B blocked, W blocked for writing, E exported, D dirty
record SeptCase(String name, int number, String bits) {
    static final long SUPPRESS_VE = 1L << 63;
    static final List<SeptCase> ALL = """
            FREE                          0  BWE
            REMOVED                       5  BW
            NL_MAPPED                   132  -
            NL_BLOCKED                  129  B
            MAPPED                        4  L
            BLOCKED                       1  LB
            BLOCKEDW                      8  LW
            EXPORTED_BLOCKEDW             9  LWE
            EXPORTED_DIRTY               11  LED
            EXPORTED_DIRTY_BLOCKEDW      12  LWED
            PENDING                       2  LP
            PENDING_BLOCKED               3  LPB
            PENDING_BLOCKEDW             16  LPW
            PENDING_EXPORTED_BLOCKEDW    17  LPWE
            PENDING_EXPORTED_DIRTY       19  LPED
            PENDING_EXPORTED_DIRTY_BLOCKEDW 20 LPWED
            """.lines().map(line -> line.split(" +")).map(c -> new SeptCase(c[0], Integer.parseInt(c[1]), c[2])).toList();

    static SeptCase named(String name) {
        return ALL.stream().filter(s -> s.name.equals(name)).findFirst().orElseThrow();
    }

    boolean free() {
        return name.equals("FREE");
    }

    boolean inUse() {
        return !free() && !name.equals("REMOVED");
    }

    boolean leaf() {
        return inUse() && is('L');
    }

    boolean table() {
        return inUse() && !is('L');
    }

    boolean is(char bit) {
        return bits.indexOf(bit) >= 0;
    }

    /// Whether the guest can read the page.
    boolean readable() {
        return leaf() && !is('P') && !is('B');
    }

    boolean blocked() {
        return inUse() && is('B');
    }

    /// Whether processors may have cached what the entry says: not when nobody could write since it was exported.
    boolean needsTracking() {
        return inUse() && (!is('E') || is('D'));
    }

    int permissions() {
        boolean present = (table() && !is('B')) || readable();
        return present ? is('W') ? 5 : 7 : 0;
    }

    /// The entry: permissions, write-back memory and leaf bits of a page, and the letters where they are.
    long entry(long pa) {
        long value = SUPPRESS_VE | permissions() | (leaf() ? (6L << 3) | (1L << 6) | (1L << 7) : 0) | bit('P', 56) | bit('B', 55)
                | bit('W', 54) | bit('E', 53) | bit('D', 9);
        return inUse() ? value | pa : value;
    }

    private long bit(char letter, int position) {
        return is(letter) ? 1L << position : 0;
    }

    /// The entry as functions report it.
    long reported(long pa) {
        return free() ? SUPPRESS_VE : leaf() ? SUPPRESS_VE | permissions() | (6L << 3) | (1L << 6) | (1L << 7) | pa : permissions();
    }

    /// The state with a letter more.
    SeptCase with(char letter) {
        return like(bits + letter);
    }

    /// The state with a letter less.
    SeptCase without(char letter) {
        return like(bits.replace(String.valueOf(letter), ""));
    }

    private SeptCase like(String letters) {
        for (var s : ALL) {
            if (s.inUse() && s.letters().equals(new SeptCase("", 0, letters).letters())) {
                return s;
            }
        }
        throw new IllegalArgumentException("no state with " + letters);
    }

    private List<Integer> letters() {
        return bits.replace("-", "").chars().sorted().boxed().toList();
    }

    @Override public String toString() {
        return name;
    }
}
