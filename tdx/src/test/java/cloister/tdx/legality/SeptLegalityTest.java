package cloister.tdx.legality;

import static org.assertj.core.api.Assertions.assertThat;

import java.util.ArrayList;
import java.util.List;
import java.util.function.Predicate;
import org.junit.jupiter.api.Test;

/// Every function that acts on a Secure EPT entry, on an entry in every state. What is legal is derived here from what the bits of an
/// entry mean (mapped, pending, blocked, blocked for writing, exported, dirty) and not from the tables of `spec`.
/// [TDX-BASE "Secure EPT Entry State"], [TDX-MIG "Secure EPT Entry State"]
class SeptLegalityTest {
    private static final long INCORRECT = 0xC000_0B0D_0000_0001L;
    private static final long ALREADY_BLOCKED = 0x0000_0B07_0000_0001L;
    private static final long NOT_PRESENT = 0xC000_0B03_0000_0000L;
    private static final long ACCEPTED = 0x0000_0B0A_0000_0000L;
    private static final long SIZE_MISMATCH = 0xC000_0B0B_0000_0000L;

    private static final long PROMOTE_CONDITIONS = 0xC000_0B09_0000_0001L;
    private static final long TABLE_NOT_FREE = 0xC000_0B0E_0000_0001L;
    private static final long ALLOW_EXISTING = 1;

    private static final long PAGE = 0x1_0001_0000L;
    private static final long TABLE = 0x1_0000_f000L;
    private static final long LARGE = 0x1_0020_0000L;
    private static final long FREE_PAGE = 0x1_0040_0000L;
    private static final long SOURCE = 0x22_0000L;
    private static final long SUPPRESS_VE = 1L << 63;
    private static final long SMALL_GPA = 0x1000;
    private static final long LARGE_GPA = 0x20_0000;

    private static final String TABLES = """
            {"op":"include","file":"setup/vp-debug.jsonl"}
            {"op":"seamcall","leaf":3,"in":{"rcx":"0x3","rdx":"0x100000000","r8":"0x10000d000"},"out":{"rax":"0x0","rcx":"0x0","rdx":"0x0"}}
            {"op":"seamcall","leaf":3,"in":{"rcx":"0x2","rdx":"0x100000000","r8":"0x10000e000"},"out":{"rax":"0x0","rcx":"0x0","rdx":"0x0"}}
            {"op":"seamcall","leaf":3,"in":{"rcx":"0x1","rdx":"0x100000000","r8":"0x10000f000"},"out":{"rax":"0x0","rcx":"0x0","rdx":"0x0"}}
            {"op":"seamcall","leaf":2,"in":{"rcx":"0x1000","rdx":"0x100000000","r8":"0x100010000","r9":"0x220000"},\
            "out":{"rax":"0x0","rcx":"0x0","rdx":"0x0"}}
            """;
    private static final String LARGE_PAGE = """
            {"op":"seamcall","leaf":6,"in":{"rcx":"0x200001","rdx":"0x100000000","r8":"0x100200000"},\
            "out":{"rax":"0x0","rcx":"0x0","rdx":"0x0"}}
            """;
    private static final String RUN = """
            {"op":"seamcall","leaf":17,"in":{"rcx":"0x100000000"},"out":{"rax":"0x0"}}
            {"op":"seamcall","leaf":0,"in":{"rcx":"0x100007000"},\
            "guest":{"gpr":{"rcx":"0x1234","rdx":"0x806f8","rbx":"0x30","r8":"0x1234"}}}
            {"op":"guest_state","set":{"cs_ar":"0xa09b","efer":"0xd01","cr0":"0x80000031"}}
            """;

    /// A state: the number that functions report and the meaning of its bits, L leaf, P pending, B blocked, W blocked for writing,
    /// E exported, D dirty.
    private record State(String name, int number, String bits) {
        boolean free() {
            return name.equals("FREE");
        }

        boolean inUse() {
            return !free() && !name.equals("REMOVED");
        }

        boolean leaf() {
            return inUse() && is('L');
        }

        boolean nonLeaf() {
            return inUse() && !is('L');
        }

        boolean is(char bit) {
            return bits.indexOf(bit) >= 0;
        }

        boolean readable() {
            return leaf() && !is('P') && !is('B');
        }

        /// Read and execute, write, then where the letters are in an entry.
        long entry(long pa) {
            boolean present = nonLeaf() && !is('B') || readable();
            long value = SUPPRESS_VE | (present ? is('W') ? 5 : 7 : 0) | (leaf() ? 6L << 3 | 1L << 6 | 1L << 7 : 0)
                    | (is('P') ? 1L << 56 : 0) | (is('B') ? 1L << 55 : 0) | (is('W') ? 1L << 54 : 0) | (is('E') ? 1L << 53 : 0)
                    | (is('D') ? 1L << 9 : 0);
            return inUse() ? value | pa : value;
        }
    }

    private static final List<State> STATES = """
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
            """.lines().map(line -> line.split(" +")).map(c -> new State(c[0], Integer.parseInt(c[1]), c[2])).toList();

    /// A host-side function: the level of the entries that it is tried on, and the entries that it may act on.
    private record Rule(int leaf, int level, long r8, long r9, Predicate<State> legal) {
    }

    private static final List<Rule> HOST = List.of(
            new Rule(2, 0, FREE_PAGE, SOURCE, State::free), // TDH.MEM.PAGE.ADD
            new Rule(3, 1, FREE_PAGE, 0, s -> s.free() || s.nonLeaf() && !s.is('B')), // TDH.MEM.SEPT.ADD
            new Rule(5, 0, FREE_PAGE, 0, State::leaf), // TDH.MEM.PAGE.RELOCATE
            new Rule(6, 0, FREE_PAGE, 0, s -> !s.inUse()), // TDH.MEM.PAGE.AUG
            new Rule(6, 1, FREE_PAGE, 0, s -> !s.inUse()),
            new Rule(7, 0, 0, 0, s -> s.inUse() && !s.is('B') && !s.is('E')), // TDH.MEM.RANGE.BLOCK
            new Rule(7, 1, 0, 0, s -> s.inUse() && !s.is('B') && !s.is('E')),
            new Rule(12, 0, 0, 0, State::readable), // TDH.MEM.RD
            new Rule(14, 0, 0, 0, s -> s.readable() && !s.is('W')), // TDH.MEM.WR
            new Rule(15, 1, FREE_PAGE, 0, s -> s.leaf() && !s.is('W') && !s.is('E')), // TDH.MEM.PAGE.DEMOTE
            new Rule(16, 0, 0, 0, s -> s.bits.equals("L")), // TDH.MR.EXTEND
            new Rule(23, 1, 0, 0, State::nonLeaf), // TDH.MEM.PAGE.PROMOTE
            new Rule(25, 0, 0, 0, s -> true), // TDH.MEM.SEPT.RD
            new Rule(25, 1, 0, 0, s -> true),
            new Rule(29, 0, 0, 0, s -> s.leaf() && !s.is('E')), // TDH.MEM.PAGE.REMOVE
            new Rule(29, 1, 0, 0, s -> s.leaf() && !s.is('E')),
            new Rule(30, 1, 0, 0, State::nonLeaf), // TDH.MEM.SEPT.REMOVE
            new Rule(39, 0, 0, 0, s -> s.inUse() && s.is('B')), // TDH.MEM.RANGE.UNBLOCK
            new Rule(39, 1, 0, 0, s -> s.inUse() && s.is('B')));

    /// The status with which the function refuses the entry.
    private static long refusal(int leaf, State state, boolean present) {
        return switch (leaf) {
            case 7 -> state.inUse() && state.is('B') ? ALREADY_BLOCKED : INCORRECT;
            case 12, 14 -> state.leaf() && present ? INCORRECT : NOT_PRESENT | 1;
            case 16 -> state.leaf() && present ? NOT_PRESENT : NOT_PRESENT | 1;
            default -> INCORRECT;
        };
    }

    /// What a legal call returns. The table that is tried has one page in it: too few to promote, too many to remove.
    private static long success(int leaf) {
        return switch (leaf) {
            case 23 -> PROMOTE_CONDITIONS;
            case 30 -> TABLE_NOT_FREE;
            default -> 0;
        };
    }

    private static long physical(State state, int level) {
        return level == 0 ? PAGE : state.leaf() ? LARGE : TABLE;
    }

    @Test void theHostsFunctionsActOnTheEntriesThatTheyMayAndRefuseTheOthers() {
        var differences = new ArrayList<String>();
        try (var td = new RecordedTd(TABLES + LARGE_PAGE)) {
            for (var rule : HOST) {
                for (var state : STATES) {
                    var found = callHost(td, rule, state);
                    if (!found.isEmpty()) {
                        differences.add("leaf " + rule.leaf + ", level " + rule.level + ", " + state.name + ": " + found);
                    }
                }
            }
        }
        assertThat(differences).isEmpty();
    }

    private static String callHost(RecordedTd td, Rule rule, State state) {
        // Tables are tried where one is, and pages where one is.
        long gpa = rule.level == 0 ? SMALL_GPA : state.leaf() ? LARGE_GPA : state.inUse() ? 0 : LARGE_GPA;
        var slot = td.entry(gpa, rule.level);
        long before = slot.value();
        long entry = state.entry(physical(state, rule.level));
        slot.write(entry);
        boolean addressed = rule.leaf == 12 || rule.leaf == 14 || rule.leaf == 16;
        var regs = td.seamcall(rule.leaf, addressed ? gpa : gpa | rule.level,
                rule.leaf == 3 ? RecordedTd.TDR | ALLOW_EXISTING : RecordedTd.TDR, rule.r8, rule.r9);
        long rax = regs.get(0);
        long after = slot.read();
        if (rule.legal.test(state)) {
            td.powerOn();
            return rax == success(rule.leaf) ? "" : "legal, but returns " + Long.toHexString(rax);
        }
        slot.write(before);
        long wanted = refusal(rule.leaf, state, (entry & 7) != 0);
        if (rax != wanted) {
            td.powerOn();
            return "returns " + Long.toHexString(rax) + ", not " + Long.toHexString(wanted);
        }
        long info = rule.level | (long) state.number << 8;
        if (wanted != NOT_PRESENT && regs.get(2) != info) {
            return "reports " + Long.toHexString(regs.get(2)) + " in RDX, not " + Long.toHexString(info);
        }
        return after == entry ? "" : "changed the entry that it refused to " + Long.toHexString(after);
    }

    @Test void theGuestsFunctionsActOnTheEntriesThatTheyMayAndRefuseTheOthers() {
        var differences = new ArrayList<String>();
        try (var td = new RecordedTd(TABLES + RUN)) {
            for (int leaf : new int[] {6, 23, 24}) {
                for (var state : STATES) {
                    td.entry(SMALL_GPA, 0).write(state.entry(PAGE));
                    boolean resumed = td.tdcall(leaf, SMALL_GPA, 0, 0);
                    var got = resumed ? Long.toHexString(td.guest(0)) : "exit";
                    var wanted = guestResult(leaf, state);
                    if (!got.equals(wanted)) {
                        differences.add("TDG leaf " + leaf + ", " + state.name + ": " + got + ", not " + wanted);
                    }
                    td.powerOn();
                }
            }
        }
        assertThat(differences).isEmpty();
    }

    /// RAX, or that the TD exits with an EPT violation.
    private static String guestResult(int leaf, State s) {
        boolean legal = switch (leaf) {
            case 6 -> s.leaf() && s.is('P') && !s.is('B') && !s.is('W'); // TDG.MEM.PAGE.ACCEPT
            case 23 -> s.leaf() && !s.is('B'); // TDG.MEM.PAGE.ATTR.RD
            default -> s.leaf() && !s.is('B') && !s.is('W'); // TDG.MEM.PAGE.ATTR.WR
        };
        if (legal) {
            return "0";
        }
        if (leaf == 6 && s.readable()) {
            return Long.toHexString(ACCEPTED);
        }
        if (leaf != 23 && !s.free() && !s.leaf()) { // a table, or, at 4 KiB, what is no page
            return Long.toHexString(SIZE_MISMATCH);
        }
        return "exit";
    }
}
