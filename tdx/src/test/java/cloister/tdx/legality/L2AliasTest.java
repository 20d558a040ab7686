package cloister.tdx.legality;

import static org.assertj.core.api.Assertions.assertThat;

import cloister.memory.PhysicalMemory;
import cloister.spec.tdx.OpState;
import cloister.spec.tdx.SeamRegs;
import cloister.tdx.core.ModuleState;
import cloister.tdx.core.PageType;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;

/// Pages that L2 VMs map as well: what the host's functions make of the entries in their trees. [TDX-TDP "L2 Secure EPT"]
class L2AliasTest {
    private static final long TDR = MemoryTd.TDR;
    private static final long NULL_PA = ModuleState.NULL_PA;
    private static final long NOT_USED = 1L << 63;
    private static final long PAGE = PhysicalMemory.FRAME_SIZE;
    private static final long SMALL_GPA = 0x2000;
    private static final long LARGE_GPA = 0x20_0000;
    private static final long SMALL = 0x1_0004_0000L;
    private static final long TABLE = 0x1_0004_4000L;
    private static final long LARGE = 0x1_0080_0000L;
    private static final long FREE_PAGE = 0x1_0040_0000L;
    private static final long PROMOTE_CONDITIONS = 0xC000_0B09_0000_0001L;
    private static final long NO_TABLE = 0xC000_0B0F_0000_0000L;
    private static final long NOT_FREE = 0xC000_0B10_0000_0000L;
    private static final long NOT_PROVIDED = 0xC000_0B12_0000_0000L;
    private static final int VALID = 1 << 15;
    private static final int FREE = 0;
    private static final int BLOCK = 7;
    private static final int DEMOTE = 15;
    private static final int PROMOTE = 23;
    private static final int SEPT_RD = 25;
    private static final int REMOVE = 29;
    private static final int SEPT_REMOVE = 30;
    private static final int UNBLOCK = 39;

    private MemoryTd td;

    @BeforeEach void build() {
        td = new MemoryTd(false);
    }

    @AfterEach void close() {
        td.close();
    }

    /// A leaf of an L2 tree: R, W, Xs and Xu are in their places, or aside while it is blocked; VGP, PWA and SSS never move.
    private static long leaf(long pa, int attributes, boolean blocked) {
        long r = attributes & 1;
        long w = (attributes >> 1) & 1;
        long xs = (attributes >> 2) & 1;
        long xu = (attributes >> 3) & 1;
        long common = pa | (1 << 6) | (1 << 7) | (((attributes >> 4) & 1L) << 57) | (((attributes >> 5) & 1L) << 58)
                | (((attributes >> 6) & 1L) << 60);
        return common | (blocked ? (1L << 55) | (r << 3) | (xs << 4) | (xu << 5) | (w << 59) : (6 << 3) | r | (w << 1) | (xs << 2)
                | (xu << 10));
    }

    private static long table(long pa) {
        return pa | 7 | (1 << 10);
    }

    private static long alias(int vm) {
        return 1L << (57 + vm);
    }

    /// Gives the TD a page in a state, aliased in VM 1 with the attributes.
    private void map(long gpa, int level, String state, long pa, int attributes, boolean l2Blocked) {
        td.own(pa, level, PageType.REG);
        td.module().fillPage(td.td.tdr.withKey(pa), 1);
        td.entry(0, gpa, level).write(SeptCase.named(state).entry(pa) | alias(1));
        td.entry(1, gpa, level).write(leaf(pa, attributes, l2Blocked));
    }

    private SeamRegs call(int leaf, int version, long... operands) {
        return td.call(MemoryTd.regs(leaf, version, operands));
    }

    private void succeed(int leaf, long... operands) {
        assertThat(call(leaf, 0, operands).get(SeamRegs.RAX)).isZero();
    }

    private long l1(long gpa, int level) {
        return td.entry(0, gpa, level).read();
    }

    private long l2(int vm, long gpa, int level) {
        return td.entry(vm, gpa, level).read();
    }

    @Test void permissionsSurviveThatThePageIsBlockedAndUnblocked() {
        for (int attributes = 1; attributes < 1 << 7; attributes++) {
            map(SMALL_GPA, 0, "MAPPED", SMALL, attributes, false);
            succeed(BLOCK, SMALL_GPA, TDR);
            assertThat(l2(1, SMALL_GPA, 0)).as("attributes %x, blocked", attributes).isEqualTo(leaf(SMALL, attributes, true));
            assertThat(l1(SMALL_GPA, 0)).isEqualTo(SeptCase.named("BLOCKED").entry(SMALL) | alias(1));
            var read = call(SEPT_RD, 0, SMALL_GPA, TDR | 1);
            assertThat(read.get(SeamRegs.R8)).as("attributes of VM 1").isEqualTo(((attributes | VALID) << 16) & 0xffff_ffffL);
            succeed(UNBLOCK, SMALL_GPA, TDR);
            assertThat(l2(1, SMALL_GPA, 0)).as("attributes %x, unblocked", attributes).isEqualTo(leaf(SMALL, attributes, false));
        }
    }

    @Test void thePermissionsOfAPendingPageAreLostWhenItIsBlocked() {
        map(SMALL_GPA, 0, "PENDING", SMALL, 0x17, true);
        succeed(BLOCK, SMALL_GPA, TDR);
        assertThat(l2(1, SMALL_GPA, 0)).as("nothing was allowed when it was saved").isEqualTo(leaf(SMALL, 0x10, true));
        succeed(UNBLOCK, SMALL_GPA, TDR);
        assertThat(l2(1, SMALL_GPA, 0)).as("still pending").isEqualTo(leaf(SMALL, 0x10, true));
    }

    @Test void aPageThatIsBlockedForWritingHasItsWritePermissionSavedAlready() {
        map(SMALL_GPA, 0, "BLOCKEDW", SMALL, 0xd, false);
        td.entry(1, SMALL_GPA, 0).write(leaf(SMALL, 0xd, false) | (1L << 59));
        succeed(BLOCK, SMALL_GPA, TDR);
        assertThat(l2(1, SMALL_GPA, 0)).isEqualTo(leaf(SMALL, 0xf, true));
    }

    @Test void removalTakesTheAliasesAlong() {
        map(SMALL_GPA, 0, "MAPPED", SMALL, 7, false);
        succeed(REMOVE, SMALL_GPA, TDR);
        assertThat(l2(1, SMALL_GPA, 0)).isEqualTo(FREE);
        assertThat(l1(SMALL_GPA, 0)).isEqualTo(SeptCase.named("FREE").entry(0));
    }

    @Test void aliasesMoveWithThePage() {
        map(SMALL_GPA, 0, "BLOCKED", SMALL, 0x33, true);
        assertThat(call(5, 0, SMALL_GPA, TDR, FREE_PAGE).get(SeamRegs.RCX)).isEqualTo(SMALL);
        assertThat(l2(1, SMALL_GPA, 0)).as("unblocked").isEqualTo(leaf(FREE_PAGE, 0x33, false));
        assertThat(l1(SMALL_GPA, 0)).isEqualTo(SeptCase.named("MAPPED").entry(FREE_PAGE) | alias(1));
        map(SMALL_GPA, 0, "PENDING_BLOCKED", SMALL, 0x33, true);
        assertThat(call(5, 0, SMALL_GPA, TDR, FREE_PAGE + PAGE).get(SeamRegs.RAX)).isZero();
        assertThat(l2(1, SMALL_GPA, 0)).as("still pending").isEqualTo(leaf(FREE_PAGE + PAGE, 0x33, true));
    }

    @Test void demotionSplitsTheAliases() {
        map(LARGE_GPA, 1, "BLOCKED", LARGE, 0xb, true);
        long[] tables = {FREE_PAGE, (FREE_PAGE + PAGE) | NOT_USED, FREE_PAGE + 2 * PAGE, NULL_PA};
        var regs = call(DEMOTE, 0, LARGE_GPA | 1, TDR, tables[0], tables[1], tables[2], tables[3]);
        assertThat(regs.get(SeamRegs.RAX)).isZero();
        assertThat(new long[] {regs.get(SeamRegs.R9), regs.get(SeamRegs.R10), regs.get(SeamRegs.R11)})
                .as("pages of dense tables are returned as they came").containsExactly(tables[1], tables[2], tables[3]);
        assertThat(l1(LARGE_GPA, 1)).isEqualTo(SeptCase.named("NL_MAPPED").entry(FREE_PAGE) | alias(1) | alias(2));
        assertThat(l2(1, LARGE_GPA, 1)).isEqualTo(table(FREE_PAGE + PAGE));
        assertThat(l2(2, LARGE_GPA, 1)).isEqualTo(table(FREE_PAGE + 2 * PAGE));
        assertThat(l2(3, LARGE_GPA, 1)).isEqualTo(FREE);
        for (int i : new int[] {0, 1, 511}) {
            long gpa = LARGE_GPA + i * PAGE;
            assertThat(l1(gpa, 0)).isEqualTo(SeptCase.named("MAPPED").entry(LARGE + i * PAGE) | alias(1));
            assertThat(l2(1, gpa, 0)).isEqualTo(leaf(LARGE + i * PAGE, 0xb, false));
            assertThat(l2(2, gpa, 0)).isEqualTo(FREE);
            assertThat(td.pamt(LARGE + i * PAGE, 0).type()).isEqualTo(PageType.REG);
        }
        assertThat(td.pamt(LARGE, 1).type()).isEqualTo(PageType.NDA);
    }

    @Test void aPendingPageStaysPendingWhenItIsDemoted() {
        map(LARGE_GPA, 1, "PENDING_BLOCKED", LARGE, 0xb, true);
        succeed(DEMOTE, LARGE_GPA | 1, TDR, FREE_PAGE, FREE_PAGE + PAGE, NULL_PA, NULL_PA);
        assertThat(l1(LARGE_GPA + PAGE, 0)).isEqualTo(SeptCase.named("PENDING").entry(LARGE + PAGE) | alias(1));
        assertThat(l2(1, LARGE_GPA + PAGE, 0)).isEqualTo(leaf(LARGE + PAGE, 0xb, true));
    }

    @Test void sparseDemotionUsesTablesForAliasesOnly() {
        map(LARGE_GPA, 1, "BLOCKED", LARGE, 0xb, true);
        var regs = call(DEMOTE, 0, LARGE_GPA | 1, TDR | 1, FREE_PAGE, FREE_PAGE + PAGE, FREE_PAGE + 2 * PAGE, NULL_PA);
        assertThat(regs.get(SeamRegs.RAX)).isZero();
        assertThat(regs.get(SeamRegs.R9)).isEqualTo(FREE_PAGE + PAGE);
        assertThat(regs.get(SeamRegs.R10)).isEqualTo((FREE_PAGE + 2 * PAGE) | NOT_USED);
        assertThat(regs.get(SeamRegs.R11)).isEqualTo(NULL_PA);
        assertThat(l1(LARGE_GPA, 1)).isEqualTo(SeptCase.named("NL_MAPPED").entry(FREE_PAGE) | alias(1));
        assertThat(td.pamt(FREE_PAGE + 2 * PAGE, 0).type()).isEqualTo(PageType.NDA);
    }

    @Test void demotionOfAnAliasedPageNeedsATableForTheAlias() {
        map(LARGE_GPA, 1, "BLOCKED", LARGE, 0xb, true);
        td.record();
        var regs = call(DEMOTE, 0, LARGE_GPA | 1, TDR, FREE_PAGE, NULL_PA, FREE_PAGE + PAGE, NULL_PA);
        assertThat(regs.get(SeamRegs.RAX)).isEqualTo(NOT_PROVIDED | 9);
        assertThat(regs.get(SeamRegs.R9)).isEqualTo(NULL_PA);
        assertThat(td.changes()).isEmpty();
    }

    @Test void demotionReportsTheL2TableThatIsMissing() {
        map(LARGE_GPA, 1, "BLOCKED", LARGE, 0xb, true);
        td.entry(2, 0, 2).write(FREE);
        var regs = call(DEMOTE, 0, LARGE_GPA | 1, TDR, FREE_PAGE, FREE_PAGE + PAGE, FREE_PAGE + 2 * PAGE, NULL_PA);
        assertThat(regs.get(SeamRegs.RAX)).isEqualTo(NO_TABLE | (2 << 16) | 2);
        assertThat(regs.get(SeamRegs.RCX)).isEqualTo(1L << 63);
        assertThat(regs.get(SeamRegs.RDX)).isEqualTo((2 << 16) | (64 << 8) | 2);
        assertThat(l1(LARGE_GPA, 1)).isEqualTo(SeptCase.named("BLOCKED").entry(LARGE) | alias(1));
        assertThat(td.pamt(FREE_PAGE, 0).type()).isEqualTo(PageType.NDA);
        assertThat(td.pamt(FREE_PAGE, 0).lock().get()).isZero();
    }

    /// Tables of VMs 0 to 2 that map 512 pages, in VM 1 with the attributes, in VM 2 not at all.
    private void parts(int attributes) {
        td.makeFullTable(TABLE, SeptCase.named("MAPPED").entry(0) | alias(1), LARGE, 0);
        td.makeFullTable(TABLE + PAGE, leaf(0, attributes, false), LARGE, 0);
        td.makeTable(TABLE + 2 * PAGE, FREE);
        td.entry(0, LARGE_GPA, 1).write(SeptCase.named("NL_MAPPED").entry(TABLE) | alias(1) | alias(2));
        td.entry(1, LARGE_GPA, 1).write(table(TABLE + PAGE));
        td.entry(2, LARGE_GPA, 1).write(table(TABLE + 2 * PAGE));
    }

    @Test void promotionMergesTheAliases() {
        for (int version = 0; version < 2; version++) {
            td.record();
            parts(0xf);
            var regs = call(PROMOTE, version, LARGE_GPA | 1, TDR);
            assertThat(regs.get(SeamRegs.RAX)).isZero();
            assertThat(regs.get(SeamRegs.RCX)).isEqualTo(TABLE);
            assertThat(regs.get(SeamRegs.R9)).isEqualTo(version == 0 ? 0 : TABLE + PAGE);
            assertThat(regs.get(SeamRegs.R10)).isEqualTo(version == 0 ? 0 : TABLE + 2 * PAGE);
            assertThat(regs.get(SeamRegs.R11)).isEqualTo(version == 0 ? 0 : NULL_PA);
            assertThat(l1(LARGE_GPA, 1)).isEqualTo(SeptCase.named("MAPPED").entry(LARGE) | alias(1));
            assertThat(l2(1, LARGE_GPA, 1)).isEqualTo(leaf(LARGE, 0xf, false));
            assertThat(l2(2, LARGE_GPA, 1)).isEqualTo(FREE);
            assertThat(td.pamt(LARGE, 1).type()).isEqualTo(PageType.REG);
            assertThat(td.pamt(LARGE, 0).type()).isEqualTo(PageType.NDA);
            td.takeBack();
        }
    }

    @Test void pagesThatDifferInAnAliasAreNotPromoted() {
        for (int i : new int[] {0, 1, 511}) {
            long[] odd = {leaf(LARGE + i * PAGE, 0x7, false), leaf(LARGE + i * PAGE, 0xf, true), FREE, leaf(LARGE + i * PAGE, 0x1f, false)};
            for (long entry : odd) {
                td.record();
                parts(0xf);
                td.memory().write(td.td.tdr.withKey(TABLE + PAGE) + 8 * i, 8, entry);
                td.mark();
                var regs = call(PROMOTE, 1, LARGE_GPA | 1, TDR);
                assertThat(regs.get(SeamRegs.RAX)).isEqualTo(PROMOTE_CONDITIONS);
                assertThat(regs.get(SeamRegs.RCX)).isEqualTo(7);
                assertThat(regs.get(SeamRegs.RDX)).isEqualTo((132 << 8) | 1);
                assertThat(regs.get(SeamRegs.R9)).isEqualTo(NULL_PA);
                assertThat(td.changes()).as("every lock is released").isEmpty();
                td.takeBack();
            }
        }
    }

    @Test void aTableGoesWithItsL2Tables() {
        td.makeTable(TABLE, SeptCase.named("FREE").entry(0));
        td.makeTable(TABLE + 3 * PAGE, FREE);
        td.entry(0, LARGE_GPA, 1).write(SeptCase.named("NL_MAPPED").entry(TABLE) | alias(3));
        td.entry(3, LARGE_GPA, 1).write(table(TABLE + 3 * PAGE));
        td.opState(OpState.INITIALIZED);
        long children = td.children();
        var regs = call(SEPT_REMOVE, 1, LARGE_GPA | 1, TDR);
        assertThat(regs.get(SeamRegs.RAX)).isZero();
        assertThat(new long[] {regs.get(SeamRegs.RCX), regs.get(SeamRegs.R9), regs.get(SeamRegs.R10), regs.get(SeamRegs.R11)})
                .containsExactly(TABLE, NULL_PA, NULL_PA, TABLE + 3 * PAGE);
        assertThat(l2(3, LARGE_GPA, 1)).isEqualTo(FREE);
        assertThat(children - td.children()).isEqualTo(2);
        assertThat(td.pamt(TABLE + 3 * PAGE, 0).type()).isEqualTo(PageType.NDA);
    }

    @Test void blockingATableBlocksItsL2Tables() {
        succeed(BLOCK, 1, TDR);
        assertThat(l2(2, 0, 1)).isEqualTo(MemoryTd.table(1, 2) | (1L << 55));
        succeed(UNBLOCK, 1, TDR);
        assertThat(l2(2, 0, 1)).isEqualTo(table(MemoryTd.table(1, 2)));
    }

    @Test void additionRefusesAnL2EntryInUse() {
        var regs = call(3, 1, 1, TDR, NULL_PA, NULL_PA, FREE_PAGE, NULL_PA);
        assertThat(regs.get(SeamRegs.RAX)).isEqualTo(NOT_FREE | (2 << 16) | 1);
        assertThat(regs.get(SeamRegs.RCX)).isEqualTo(7 | (1 << 10));
        assertThat(regs.get(SeamRegs.RDX)).isEqualTo((2 << 16) | (196 << 8) | 1);
        var tolerant = call(3, 1, 1, TDR | 1, FREE_PAGE, NULL_PA, FREE_PAGE, NULL_PA);
        assertThat(tolerant.get(SeamRegs.RAX)).isZero();
        assertThat(tolerant.get(SeamRegs.R8)).isEqualTo(FREE_PAGE | NOT_USED);
        assertThat(tolerant.get(SeamRegs.R10)).isEqualTo(FREE_PAGE | NOT_USED);
        assertThat(td.pamt(FREE_PAGE, 0).type()).isEqualTo(PageType.NDA);
    }

    @Test void additionReportsTheL2TableThatIsMissing() {
        td.entry(2, 0, 2).write(FREE);
        var regs = call(3, 1, LARGE_GPA | 1, TDR, FREE_PAGE, FREE_PAGE + PAGE, FREE_PAGE + 2 * PAGE, NULL_PA);
        assertThat(regs.get(SeamRegs.RAX)).isEqualTo(NO_TABLE | (2 << 16) | 2);
        assertThat(regs.get(SeamRegs.RDX)).isEqualTo((2 << 16) | (64 << 8) | 2);
        assertThat(l1(LARGE_GPA, 1)).isEqualTo(SeptCase.named("FREE").entry(0));
        assertThat(td.pamt(FREE_PAGE, 0).lock().get()).isZero();
    }
}
