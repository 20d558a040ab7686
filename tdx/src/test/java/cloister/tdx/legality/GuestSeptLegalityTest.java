package cloister.tdx.legality;

import static org.assertj.core.api.Assertions.assertThat;

import cloister.spec.tdx.SeamRegs;
import cloister.tdx.core.PageType;
import java.util.ArrayList;
import java.util.HexFormat;
import java.util.List;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;

/// Every guest-side memory function on a Secure EPT entry in every state, at every level at which the guest can ask for it and at
/// every level at which the walk can end: the exact status, RCX and RDX or TD exit, and the entry afterwards.
class GuestSeptLegalityTest {
    private static final int ACCEPT = 6;
    private static final int ATTR_RD = 23;
    private static final int ATTR_WR = 24;
    private static final long ACCEPTED = 0x0000_0B0A_0000_0000L;
    private static final long SIZE_MISMATCH = 0xC000_0B0B_0000_0000L;
    private static final long EPT_VIOLATION = 48;
    private static final long WRITE = 2;
    private static final long PENDING = 1L << 62;
    private static final long[] GPA = {0x2000, 0x20_0000, 0x4000_0000};
    private static final long[] PAGES = {0x1_0004_0000L, 0x1_0080_0000L, 0x1_4000_0000L};
    private static final long TABLE = 0x1_0004_1000L;
    private static final long RDX = 0x1234;

    private static MemoryTd td;

    /// @param wanted level that the guest asks for
    /// @param level  level of the entry that is in `state`
    private record Case(int leaf, int wanted, int level, SeptCase state) {
        long pa() {
            return state.leaf() || level == 0 ? PAGES[level] : TABLE;
        }

        long operand() {
            return leaf == ATTR_RD ? GPA[level] : GPA[level] | wanted;
        }

        /// A table is walked through, to an entry that is free.
        boolean goesOn() {
            return level > wanted && state.table() && !state.is('B');
        }

        int end() {
            return goesOn() ? level - 1 : level;
        }

        SeptCase found() {
            return goesOn() ? SeptCase.named("FREE") : state;
        }

        @Override public String toString() {
            return "TDG leaf " + leaf + " for level " + wanted + ", " + state + " at level " + level;
        }
    }

    /// The guest's RAX, RCX and RDX or, when the TD exits, the host's with R8; and the entry.
    private record End(boolean exit, long rax, long rcx, long rdx, long r8, long entry) {
        @Override public String toString() {
            var hex = HexFormat.of();
            return (exit ? "exit " : "") + "RAX " + hex.toHexDigits(rax) + " RCX " + hex.toHexDigits(rcx) + " RDX "
                    + hex.toHexDigits(rdx) + " R8 " + hex.toHexDigits(r8) + " entry " + hex.toHexDigits(entry);
        }
    }

    @BeforeAll static void build() {
        td = new MemoryTd(true);
    }

    @AfterAll static void close() {
        td.close();
    }

    @Test void theGuestsFunctionsActOnTheEntriesThatTheyMayAndRefuseTheOthers() {
        var differences = new ArrayList<String>();
        var cases = cases();
        for (var c : cases) {
            var wanted = expected(c);
            var got = run(c);
            if (!got.equals(wanted)) {
                differences.add(c + ": " + got + ", not " + wanted);
            }
        }
        assertThat(differences).isEmpty();
        assertThat(cases).hasSizeGreaterThan(200);
    }

    private static List<Case> cases() {
        var cases = new ArrayList<Case>();
        for (int leaf : new int[] {ACCEPT, ATTR_RD, ATTR_WR}) {
            int largest = leaf == ACCEPT ? 1 : leaf == ATTR_RD ? 0 : 2;
            for (int wanted = 0; wanted <= largest; wanted++) {
                for (int level = wanted; level <= 2; level++) {
                    for (var state : SeptCase.ALL) {
                        cases.add(new Case(leaf, wanted, level, state));
                    }
                }
            }
        }
        return cases;
    }

    private static End run(Case c) {
        td.record();
        var slot = td.entry(0, GPA[c.level], c.level);
        if (c.state.leaf()) {
            td.own(c.pa(), c.level, PageType.REG);
        } else if (c.state.table() && c.level > 0) {
            td.makeTable(TABLE, SeptCase.named("FREE").entry(0));
        }
        slot.write(c.state.entry(c.pa()));
        boolean resumed = td.td.tdcall(c.leaf, c.operand(), c.leaf == ATTR_WR ? 0 : RDX, 0);
        if (resumed) {
            var end = new End(false, td.td.guest(SeamRegs.RAX), td.td.guest(SeamRegs.RCX), td.td.guest(SeamRegs.RDX), 0, slot.read());
            td.takeBack();
            return end;
        }
        var host = td.td.machine.hostRegisters(0);
        var end = new End(true, host.get(SeamRegs.RAX), host.get(SeamRegs.RCX), host.get(SeamRegs.RDX), host.get(SeamRegs.R8),
                slot.read());
        td.powerOn();
        return end;
    }

    private static End expected(Case c) {
        var state = c.found();
        long entry = c.state.entry(c.pa());
        if (c.leaf == ATTR_RD) {
            long rcx = GPA[c.level] | c.level | (state.is('P') ? PENDING : 0);
            return state.leaf() && !state.is('B') ? new End(false, 0, rcx, 0, 0, entry) : new End(true, EPT_VIOLATION, 0, 0, GPA[c.level],
                    entry);
        }
        if (c.end() == c.wanted && !state.leaf() && !state.free()) {
            return failed(c, SIZE_MISMATCH | c.wanted);
        }
        if (c.leaf == ACCEPT && state.readable()) {
            return failed(c, ACCEPTED | c.end());
        }
        boolean legal = c.end() == c.wanted && state.leaf() && !state.is('B') && !state.is('W')
                && (c.leaf == ATTR_WR || state.is('P'));
        if (!legal) {
            return violation(c);
        }
        return c.leaf == ACCEPT ? new End(false, 0, c.operand(), RDX, 0, state.without('P').entry(c.pa()))
                : new End(false, 0, c.operand() | (state.is('P') ? PENDING : 0), 0, 0, entry);
    }

    private static End failed(Case c, long status) {
        return new End(false, status, c.leaf == ACCEPT ? c.operand() : 0, c.leaf == ACCEPT ? RDX : 0, 0, c.state.entry(c.pa()));
    }

    /// The host learns what was asked for and what was found.
    private static End violation(Case c) {
        var state = c.found();
        long info = c.wanted | (c.end() << 3) | (state.number() << 6) | (state.leaf() ? 1 << 14 : 0);
        int type = c.leaf == ACCEPT ? 1 : 5;
        return new End(true, EPT_VIOLATION, WRITE | ((long) state.permissions() << 3), type | (info << 32), GPA[c.level],
                c.state.entry(c.pa()));
    }
}
