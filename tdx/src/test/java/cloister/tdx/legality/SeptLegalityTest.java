package cloister.tdx.legality;

import static org.assertj.core.api.Assertions.assertThat;

import cloister.spec.tdx.OpState;
import cloister.spec.tdx.SeamRegs;
import cloister.tdx.core.ModuleState;
import cloister.tdx.core.PageType;
import cloister.tdx.core.Tdcs;
import java.util.ArrayList;
import java.util.HexFormat;
import java.util.List;
import java.util.function.Predicate;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;

/// Every host-side memory function on a Secure EPT entry in every state, at every level, of a TD that is being built, of one that
/// runs and of one that runs and whose blocking is not tracked: the exact status, RCX, RDX and R8, the entry afterwards and, of a
/// call that fails, that it changed nothing.
class SeptLegalityTest {
    private static final long INVALID_RCX = 0xC000_0100_0000_0001L;
    private static final long STATE_INCORRECT = 0xC000_0B0D_0000_0001L;
    private static final long ALREADY_BLOCKED = 0x0000_0B07_0000_0001L;
    private static final long NOT_BLOCKED = 0xC000_0B06_0000_0001L;
    private static final long NOT_TRACKED = 0xC000_0B08_0000_0001L;
    private static final long NOT_PRESENT = 0xC000_0B03_0000_0001L;
    private static final long PROMOTE_CONDITIONS = 0xC000_0B09_0000_0001L;
    private static final long TABLE_NOT_FREE = 0xC000_0B0E_0000_0001L;

    private static final long ALLOW_EXISTING = 1;
    private static final int PT = 0;
    private static final int PD = 1;
    private static final int PDPT = 2;
    private static final int PML4 = 3;
    /// Of each level a GPA whose entry is free.
    private static final long[] GPA = {0x2000, 0x20_0000, 0x4000_0000, 0x80_0000_0000L};
    /// What a page at each level maps.
    private static final long[] PAGES = {0x1_0004_0000L, 0x1_0080_0000L, 0x1_4000_0000L};
    private static final long TABLE = 0x1_0004_1000L;
    private static final long[] PARTS = {0, 0x1_00a0_0000L, 0x1_4000_0000L};
    private static final long FREE_PAGE = 0x1_0040_0000L;
    private static final long OFFSET = 0x18;
    private static final long DATA = 0x0123_4567_89ab_cdefL;
    private static final long OTHER = 0x7777_7777_7777_7777L;
    private static final long EPOCH = 5;

    private static MemoryTd td;

    /// What the TD is doing.
    private enum Phase { BUILT, TRACKED, UNTRACKED }

    /// What is in the table that a non-leaf entry points to.
    private enum Content { EMPTY, ONE_PAGE, FULL }

    /// A function, the levels that it takes and the entries that it may act on.
    private record Rule(String name, int leaf, int minLevel, int maxLevel, boolean tracks, Predicate<SeptCase> legal) {
        boolean addressed() {
            return leaf == 12 || leaf == 14;
        }
    }

    private static final List<Rule> RULES = List.of(
            new Rule("PAGE.ADD", 2, PT, PT, false, SeptCase::free),
            new Rule("SEPT.ADD", 3, PD, PML4, false, s -> s.free() || (s.table() && !s.is('B'))),
            new Rule("PAGE.RELOCATE", 5, PT, PT, true, SeptCase::leaf),
            new Rule("PAGE.AUG", 6, PT, PD, false, s -> !s.inUse()),
            new Rule("RANGE.BLOCK", 7, PT, PML4, false, s -> s.inUse() && !s.is('B') && !s.is('E')),
            new Rule("RD", 12, PT, PDPT, false, SeptCase::readable),
            new Rule("WR", 14, PT, PDPT, false, s -> s.readable() && !s.is('W')),
            new Rule("PAGE.DEMOTE", 15, PD, PDPT, true, s -> s.leaf() && !s.is('W') && !s.is('E')),
            new Rule("PAGE.PROMOTE", 23, PD, PDPT, true, SeptCase::table),
            new Rule("SEPT.RD", 25, PT, PML4, false, s -> true),
            new Rule("PAGE.REMOVE", 29, PT, PDPT, true, s -> s.leaf() && !s.is('E')),
            new Rule("SEPT.REMOVE", 30, PD, PML4, true, SeptCase::table),
            new Rule("RANGE.UNBLOCK", 39, PT, PML4, true, SeptCase::blocked));

    private record Case(Rule rule, int level, SeptCase state, Content content, Phase phase, long flags) {
        long pa() {
            return state.leaf() || level == PT ? PAGES[level] : TABLE;
        }

        long entry() {
            return state.entry(pa());
        }

        long pagesOf(int at) {
            return 1L << (9 * at);
        }

        @Override public String toString() {
            return rule.name + " level " + level + " " + state + (state.table() ? " " + content : "") + " " + phase
                    + (flags == 0 ? "" : " flags " + flags);
        }
    }

    /// How a call ends.
    ///
    /// @param entry    the entry then
    /// @param children pages that the TD has more
    private record End(long rax, long rcx, long rdx, long r8, long entry, long children) {
        @Override public String toString() {
            var hex = HexFormat.of();
            return "RAX " + hex.toHexDigits(rax) + " RCX " + hex.toHexDigits(rcx) + " RDX " + hex.toHexDigits(rdx) + " R8 "
                    + hex.toHexDigits(r8) + " entry " + hex.toHexDigits(entry) + " pages " + children;
        }
    }

    @BeforeAll static void build() {
        td = new MemoryTd(false);
    }

    @AfterAll static void close() {
        td.close();
    }

    @Test void theHostsFunctionsActOnTheEntriesThatTheyMayAndRefuseTheOthers() {
        var differences = new ArrayList<String>();
        int count = 0;
        for (var c : cases()) {
            var wanted = expected(c);
            var got = run(c, wanted, differences);
            if (!got.equals(wanted)) {
                differences.add(c + ": " + got + ", not " + wanted);
            }
            count++;
        }
        assertThat(differences).isEmpty();
        assertThat(count).isGreaterThan(1000);
    }

    private static List<Case> cases() {
        var cases = new ArrayList<Case>();
        for (var rule : RULES) {
            for (int level = rule.minLevel; level <= rule.maxLevel; level++) {
                for (var state : SeptCase.ALL) {
                    if (!state.leaf() || level <= PDPT) {
                        addCases(cases, rule, level, state);
                    }
                }
            }
        }
        return cases;
    }

    private static void addCases(List<Case> cases, Rule rule, int level, SeptCase state) {
        for (var content : Content.values()) {
            boolean possible = content == Content.EMPTY || (state.table() && level >= PD
                    && (content != Content.FULL || (level <= PDPT && !rule.addressed())));
            for (var phase : Phase.values()) {
                if (possible && (rule.leaf != 2 || phase == Phase.BUILT)) {
                    cases.add(new Case(rule, level, state, content, phase, 0));
                    if (rule.leaf == 3) {
                        cases.add(new Case(rule, level, state, content, phase, ALLOW_EXISTING));
                    }
                }
            }
        }
    }

    private static End run(Case c, End wanted, List<String> differences) {
        td.record();
        var slot = td.entry(0, GPA[c.level], c.level);
        prepare(c);
        slot.write(c.entry());
        long children = td.children();
        td.mark();
        long named = c.rule.addressed() ? GPA[c.level] + OFFSET : GPA[c.level] | c.level;
        long r8 = c.rule.addressed() ? OTHER : FREE_PAGE;
        long r9 = c.rule.leaf == 2 ? MemoryTd.SOURCE : ModuleState.NULL_PA;
        var regs = td.call(MemoryTd.regs(c.rule.leaf, 0, named, MemoryTd.TDR | c.flags, r8, r9, ModuleState.NULL_PA,
                ModuleState.NULL_PA));
        var end = new End(regs.get(SeamRegs.RAX), regs.get(SeamRegs.RCX), regs.get(SeamRegs.RDX), regs.get(SeamRegs.R8),
                slot.read(), td.children() - children);
        if (wanted.rax != 0 && !td.changes().isEmpty()) {
            differences.add(c + ": fails, but changes " + td.changes());
        }
        if (td.pamt(MemoryTd.TDR, 0).lock().get() != 0 || td.tdcs().lock(Tdcs.OP_STATE_LOCK).get() != 0
                || td.tdcs().lock(Tdcs.SECURE_EPT_LOCK).get() != 0) {
            differences.add(c + ": leaves a lock");
        }
        td.takeBack();
        return end;
    }

    private static void prepare(Case c) {
        long bepoch = c.phase == Phase.TRACKED ? 1 : EPOCH;
        td.opState(c.phase == Phase.BUILT ? OpState.INITIALIZED : OpState.RUNNABLE);
        td.tdcs().u64(Tdcs.TD_EPOCH, EPOCH);
        if (c.state.leaf() || (c.level == PT && c.state.inUse())) {
            td.own(c.pa(), c.level, PageType.REG);
            td.module().fillPage(td.td.tdr.withKey(c.pa()), DATA);
            td.pamt(c.pa(), c.level).bepoch(bepoch);
        } else if (c.state.table()) {
            fillTable(c.content, c.level);
            td.pamt(TABLE, 0).bepoch(bepoch);
        }
    }

    private static void fillTable(Content content, int level) {
        td.makeTable(TABLE, SeptCase.named("FREE").entry(0));
        if (content == Content.ONE_PAGE) {
            td.memory().write(td.td.tdr.withKey(TABLE) + 8 * 3, 8, SeptCase.named("MAPPED").entry(PAGES[0]));
        } else if (content == Content.FULL) {
            td.makeFullTable(TABLE, SeptCase.named("MAPPED").entry(0), PARTS[level], level - 1);
        }
    }

    private static End expected(Case c) {
        var state = c.state;
        if (c.rule.addressed()) {
            return c.rule.legal.test(state) ? accessed(c) : unreadable(c);
        }
        if (!c.rule.legal.test(state)) {
            return refused(c, c.rule.leaf == 7 && state.blocked() ? ALREADY_BLOCKED : STATE_INCORRECT);
        }
        if (c.rule.tracks && c.phase != Phase.BUILT && state.needsTracking()) {
            if (!state.blocked()) {
                return refused(c, NOT_BLOCKED);
            }
            if (c.phase == Phase.UNTRACKED) {
                return new End(NOT_TRACKED, 0, 0, FREE_PAGE, c.entry(), 0);
            }
        }
        return switch (c.rule.leaf) {
            case 2 -> done(0, SeptCase.named("MAPPED").entry(FREE_PAGE), 1);
            case 3 -> state.free() ? done(0, SeptCase.named("NL_MAPPED").entry(FREE_PAGE), 1)
                    : c.flags == ALLOW_EXISTING ? done(0, c.entry(), 0) : refused(c, STATE_INCORRECT);
            case 5 -> done(c.pa(), unblocked(state).entry(FREE_PAGE), 0);
            case 6 -> done(0, SeptCase.named("PENDING").entry(FREE_PAGE), c.pagesOf(c.level));
            case 7 -> done(0, state.without('W').with('B').entry(c.pa()), 0);
            case 15 -> done(0, SeptCase.named("NL_MAPPED").entry(FREE_PAGE), 1);
            case 23 -> c.content != Content.FULL ? refused(c, PROMOTE_CONDITIONS)
                    : done(TABLE, SeptCase.named("MAPPED").entry(PARTS[c.level]), -1);
            case 25 -> new End(0, state.reported(c.pa()), info(c), FREE_PAGE, c.entry(), 0);
            case 29 -> done(c.pa(), SeptCase.named("FREE").entry(0), -c.pagesOf(c.level));
            case 30 -> c.content != Content.EMPTY ? refused(c, TABLE_NOT_FREE) : done(TABLE, SeptCase.named("FREE").entry(0), -1);
            case 39 -> done(0, unblocked(state).entry(c.pa()), 0);
            default -> throw new IllegalArgumentException(c.rule.name);
        };
    }

    private static SeptCase unblocked(SeptCase state) {
        return state.blocked() ? state.without('B') : state;
    }

    private static End done(long rcx, long entry, long children) {
        return new End(0, rcx, 0, FREE_PAGE, entry, children);
    }

    private static long info(Case c) {
        return c.level | ((long) c.state.number() << 8);
    }

    private static End refused(Case c, long status) {
        return new End(status, c.state.reported(c.pa()), info(c), FREE_PAGE, c.entry(), 0);
    }

    private static End accessed(Case c) {
        return new End(0, 0, 0, DATA, c.entry(), 0);
    }

    /// A debugger's access where no page is: the walk may have gone one table further.
    private static End unreadable(Case c) {
        if (c.level > PT && c.state.permissions() != 0 && c.state.table()) {
            return new End(NOT_PRESENT, SeptCase.SUPPRESS_VE, c.level - 1, 0, c.entry(), 0);
        }
        boolean present = c.state.leaf() && c.state.permissions() != 0;
        return new End(present ? STATE_INCORRECT : NOT_PRESENT, c.state.reported(c.pa()), info(c), 0, c.entry(), 0);
    }

    @Test void levelsAndAddressesThatAFunctionDoesNotTakeAreRefused() {
        var differences = new ArrayList<String>();
        for (var rule : RULES) {
            for (long info : operands(rule)) {
                td.record();
                td.mark();
                var regs = td.call(MemoryTd.regs(rule.leaf, 0, info, MemoryTd.TDR, FREE_PAGE, MemoryTd.SOURCE));
                if (regs.get(SeamRegs.RAX) != INVALID_RCX || regs.get(SeamRegs.RCX) != 0 || regs.get(SeamRegs.RDX) != 0
                        || !td.changes().isEmpty()) {
                    differences.add(rule.name + " of " + Long.toHexString(info) + ": " + Long.toHexString(regs.get(SeamRegs.RAX)));
                }
                td.takeBack();
            }
        }
        assertThat(differences).isEmpty();
    }

    @Test void aTreeOfFiveLevelsHasARootThatCoversAllPrivateAddresses() {
        td.record();
        td.tdcs().u64(Tdcs.EPTP, (td.tdcs().eptp() & ~0x38L) | (4 << 3));
        assertThat(rax(25, 4)).as("the root's first entry").isZero();
        assertThat(rax(25, 5)).isEqualTo(INVALID_RCX);
        for (int bit = 12; bit < 48; bit++) {
            assertThat(rax(25, 4 | (1L << bit))).as("address bit %d", bit).isEqualTo(INVALID_RCX);
        }
        assertThat(rax(7, 4)).as("its table is blocked as any other").isZero();
        assertThat(rax(30, 4)).isEqualTo(TABLE_NOT_FREE);
        assertThat(rax(39, 4)).isZero();
        td.takeBack();
    }

    private static long rax(int leaf, long info) {
        return td.call(MemoryTd.regs(leaf, 0, info, MemoryTd.TDR)).get(SeamRegs.RAX);
    }

    private static List<Long> operands(Rule rule) {
        var operands = new ArrayList<Long>();
        long gpa = GPA[rule.minLevel];
        long legal = rule.addressed() ? gpa : gpa | rule.minLevel;
        for (int bit = 47; bit < 64; bit++) { // shared, beyond the GPA width, reserved
            operands.add(legal | (1L << bit));
        }
        if (rule.addressed()) {
            for (int i = 1; i < 8; i++) {
                operands.add(gpa + i);
            }
            return operands;
        }
        for (int level = 0; level < 8; level++) {
            if (level < rule.minLevel || level > rule.maxLevel) {
                operands.add((long) level);
            } else if (level > PT) {
                operands.add(level | (1L << (11 + 9 * level))); // not aligned to the level
            }
        }
        for (int bit = 3; bit < 12; bit++) {
            operands.add(legal | (1L << bit));
        }
        return operands;
    }
}
