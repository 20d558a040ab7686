package cloister.tdx.legality;

import static org.assertj.core.api.Assertions.assertThat;

import cloister.spec.tdx.SeamRegs;
import cloister.tdx.core.PageType;
import cloister.tdx.core.Tdcs;
import java.util.ArrayList;
import java.util.HexFormat;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;

/// TDG.MEM.PAGE.ATTR.RD and TDG.MEM.PAGE.ATTR.WR, and what a locked entry does to the guest's functions. [TDX-TDP "GPA Attributes"]
class PageAttributesTest {
    private static final int ACCEPT = 6;
    private static final int READ = 23;
    private static final int WRITE = 24;
    private static final long GPA = 0x2000;
    private static final long PAGE = 0x1_0004_0000L;
    private static final int VALID = 1 << 15;
    private static final int UNALIASED = -1;
    private static final long PENDING = 1L << 62;
    private static final long INVALID = 0xC000_0100_0000_0000L;
    private static final long ILLEGAL = 0xC000_0B11_0000_0000L;
    private static final long NO_TABLE = 0xC000_0B0F_0000_0000L;
    private static final long BUSY_RCX = 0x8000_0200_0000_0001L;
    private static final long BUSY_TIMEOUT = 0x9000_0205_0000_0000L;
    private static final long EPT_VIOLATION = 48;
    private static final long ENTRY_LOCK = 1L << 11;
    private static final long HOST_PRIORITY = 1L << 52;

    private MemoryTd td;

    @BeforeEach void build() {
        td = new MemoryTd(true);
        td.own(PAGE, 0, PageType.REG);
    }

    @AfterEach void close() {
        td.close();
    }

    private static long leaf(int attributes, boolean blocked) {
        long r = attributes & 1;
        long w = (attributes >> 1) & 1;
        long xs = (attributes >> 2) & 1;
        long xu = (attributes >> 3) & 1;
        long common = PAGE | (1 << 6) | (1 << 7) | (((attributes >> 4) & 1L) << 57) | (((attributes >> 5) & 1L) << 58)
                | (((attributes >> 6) & 1L) << 60);
        return common | (blocked ? (1L << 55) | (r << 3) | (xs << 4) | (xu << 5) | (w << 59) : (6 << 3) | r | (w << 1) | (xs << 2)
                | (xu << 10));
    }

    private static boolean present(int attributes) {
        return (attributes & 0xf) != 0;
    }

    /// Reserved bits are 0, nothing is written that cannot be read, #VE is not suppressed.
    private static boolean legal(int attributes) {
        boolean readable = (attributes & 1) != 0;
        return (attributes & 0x7f80) == 0 && (readable || ((attributes & 2) == 0 && (attributes & (1 << 5)) == 0));
    }

    /// @param current attributes of VM 1 to 3
    private void map(String state, int... current) {
        long aliases = 0;
        for (int vm = 1; vm <= MemoryTd.L2_VMS; vm++) {
            boolean aliased = current[vm - 1] != UNALIASED;
            aliases |= aliased ? 1L << (57 + vm) : 0;
            td.entry(vm, GPA, 0).write(aliased ? leaf(current[vm - 1], state.equals("PENDING")) : 0);
        }
        td.entry(0, GPA, 0).write(SeptCase.named(state).entry(PAGE) | aliases);
    }

    private static long registers(int... vms) {
        long value = 0;
        for (int vm = 1; vm <= vms.length; vm++) {
            value |= (vms[vm - 1] & 0xffffL) << (16 * vm);
        }
        return value;
    }

    private String hex(int register) {
        return HexFormat.of().toHexDigits(td.td.guest(register));
    }

    /// What one VM has after it was given `wanted` under a mask, and what RDX says of it.
    private record Outcome(boolean ok, int attributes, int reported) {
        static Outcome of(int current, int wanted, int mask) {
            int masked = wanted & (mask | VALID);
            if ((masked & VALID) == 0) {
                return new Outcome(true, current, wanted);
            }
            if (current == UNALIASED) {
                if (!present(masked)) {
                    return new Outcome(true, UNALIASED, wanted);
                }
                return legal(masked) ? new Outcome(true, masked, masked) : new Outcome(false, UNALIASED, 0);
            }
            int combined = (current & ~mask) | masked;
            if (!present(combined)) {
                return new Outcome(true, UNALIASED, VALID);
            }
            return legal(combined) ? new Outcome(true, combined, combined) : new Outcome(false, current, current | VALID);
        }
    }

    @Test void attributesComeFromTheOldTheNewAndTheMask() {
        var differences = new ArrayList<String>();
        for (var state : new String[] {"MAPPED", "PENDING"}) {
            for (int current : new int[] {UNALIASED, 0x1, 0x4, 0x7, 0x1f, 0x3b, 0x4f, 0x75}) {
                for (int mask : new int[] {0, 0x3, 0xc, 0x70, 0xff, 0x7fff}) {
                    for (int low = 0; low < 1 << 9; low++) {
                        write(state, current, low | VALID, mask, differences);
                    }
                }
            }
        }
        assertThat(differences).isEmpty();
    }

    private void write(String state, int current, int wanted, int mask, ArrayList<String> differences) {
        map(state, current, UNALIASED, UNALIASED);
        long before = td.entry(0, GPA, 0).read();
        td.td.tdcall(WRITE, GPA, registers(wanted), registers(mask));
        var outcome = Outcome.of(current, wanted, mask);
        int has = outcome.ok ? outcome.attributes : current;
        long status = outcome.ok ? 0 : ILLEGAL;
        long rcx = outcome.ok ? GPA | (state.equals("PENDING") ? PENDING : 0) : 0;
        long l1 = SeptCase.named(state).entry(PAGE) | (has == UNALIASED ? 0 : 1L << 58);
        long l2 = has == UNALIASED ? 0 : leaf(has, state.equals("PENDING"));
        boolean same = td.td.guest(SeamRegs.RAX) == status && td.td.guest(SeamRegs.RCX) == rcx
                && td.td.guest(SeamRegs.RDX) == registers(outcome.reported) && td.entry(0, GPA, 0).read() == l1
                && td.entry(1, GPA, 0).read() == l2;
        if (!same || (!outcome.ok && before != l1)) {
            differences.add(String.format("%s, had %x, wanted %x, mask %x: %s %s %s", state, current, wanted, mask, hex(SeamRegs.RAX),
                    hex(SeamRegs.RCX), hex(SeamRegs.RDX)));
        }
    }

    @Test void oneIllegalVmStopsTheOthers() {
        map("MAPPED", 0x1, UNALIASED, 0x7);
        td.td.tdcall(WRITE, GPA, registers(VALID | 0x5, VALID | 0x2, VALID | 0x1), registers(0xff, 0xff, 0xff));
        assertThat(td.td.guest(SeamRegs.RAX)).isEqualTo(ILLEGAL);
        assertThat(td.td.guest(SeamRegs.RCX)).isZero();
        assertThat(td.td.guest(SeamRegs.RDX)).as("what VM 1 and 3 would have, VM 2 has nothing")
                .isEqualTo(registers(VALID | 0x5, 0, VALID | 0x1));
        assertThat(td.entry(1, GPA, 0).read()).isEqualTo(leaf(0x1, false));
        assertThat(td.entry(3, GPA, 0).read()).isEqualTo(leaf(0x7, false));
    }

    @Test void operandsOfVmsThatDoNotExistAreRefused() {
        map("MAPPED", 0x1, UNALIASED, UNALIASED);
        refused(INVALID | 2, GPA, 1, 0);
        refused(INVALID | 8, GPA, 0, 1);
        refused(INVALID | 2, GPA, registers(0x7), 0);
        td.tdcs().u16(Tdcs.NUM_L2_VMS, 1);
        refused(INVALID | 2, GPA, registers(0, VALID | 1), 0);
        refused(INVALID | 8, GPA, 0, registers(0, 1));
        refused(INVALID | 1, GPA | 3, 0, 0);
        refused(INVALID | 1, GPA | 1, 0, 0);
        refused(INVALID | 1, GPA | (1L << 47), 0, 0);
        refused(INVALID | 1, GPA | (1L << 62), 0, 0);
    }

    private void refused(long status, long rcx, long rdx, long r8) {
        td.td.tdcall(WRITE, rcx, rdx, r8);
        assertThat(td.td.guest(SeamRegs.RAX)).isEqualTo(status);
        assertThat(td.td.guest(SeamRegs.RCX)).isZero();
        assertThat(td.td.guest(SeamRegs.RDX)).isZero();
    }

    @Test void readingReportsEveryVm() {
        map("PENDING", 0x31, UNALIASED, 0x4c);
        td.td.tdcall(READ, GPA | 0x123, 7, 0);
        assertThat(td.td.guest(SeamRegs.RAX)).isZero();
        assertThat(td.td.guest(SeamRegs.RCX)).isEqualTo(GPA | PENDING);
        assertThat(td.td.guest(SeamRegs.RDX)).isEqualTo(registers(VALID | 0x31, 0, VALID | 0x4c));
        td.td.tdcall(READ, GPA | (1L << 47), 7, 0);
        assertThat(td.td.guest(SeamRegs.RAX)).isEqualTo(INVALID | 1);
        assertThat(td.td.guest(SeamRegs.RCX)).isZero();
        assertThat(td.td.guest(SeamRegs.RDX)).isZero();
    }

    @Test void aMissingTableIsTheGuestsOrTheHostsBusiness() {
        map("MAPPED", UNALIASED, UNALIASED, UNALIASED);
        long table = td.entry(2, GPA, 2).read();
        td.entry(2, GPA, 2).write(0);
        refused(NO_TABLE | (2 << 16) | 2, GPA, registers(VALID | 0x1, VALID | 0x7), registers(0xff, 0xff));
        assertThat(td.entry(1, GPA, 0).read()).as("VM 1 stays as it was").isZero();
        td.entry(2, GPA, 2).write((table & ~(7L | (1 << 10))) | (1L << 55));
        td.td.tdcall(WRITE, GPA, registers(0, VALID | 0x7), registers(0, 0xff));
        assertThat(td.td.guest(SeamRegs.RAX)).as("a blocked table is still there for the guest").isZero();
        td.entry(2, GPA, 2).write(0);
        td.tdcs().u64(Tdcs.VM_CTLS + 16, 1);
        map2Unaliased();
        assertThat(td.td.tdcall(WRITE, GPA, registers(0, VALID | 0x7), registers(0, 0xff))).isFalse();
        var host = td.td.machine.hostRegisters(0);
        assertThat(host.get(SeamRegs.RAX)).isEqualTo(EPT_VIOLATION);
        assertThat(host.get(SeamRegs.RCX)).as("a write").isEqualTo(2);
        assertThat(host.get(SeamRegs.RDX)).as("level 2, VM 2").isEqualTo(2 | (((2L << 3) | (2L << 20)) << 32));
        assertThat(host.get(SeamRegs.R8)).isEqualTo(GPA);
        assertThat(td.entry(0, GPA, 0).read()).isEqualTo(SeptCase.named("MAPPED").entry(PAGE));
    }

    private void map2Unaliased() {
        td.entry(0, GPA, 0).write(SeptCase.named("MAPPED").entry(PAGE));
    }

    @Test void anEntryThatTheHostHasLockedIsBusy() {
        for (int leaf : new int[] {ACCEPT, READ, WRITE}) {
            map(leaf == ACCEPT ? "PENDING" : "MAPPED", UNALIASED, UNALIASED, UNALIASED);
            long entry = td.entry(0, GPA, 0).read() | ENTRY_LOCK;
            td.entry(0, GPA, 0).write(entry);
            td.td.tdcall(leaf, GPA, 0, 0);
            assertThat(td.td.guest(SeamRegs.RAX)).as("leaf %d", leaf).isEqualTo(BUSY_RCX);
            assertThat(td.td.guest(SeamRegs.RCX)).isEqualTo(leaf == ACCEPT ? GPA : 0);
            assertThat(td.entry(0, GPA, 0).read()).as("a guest leaves nothing in it").isEqualTo(entry);
        }
    }

    @Test void aGuestMakesWayForTheHostUntilItsTimeIsOver() {
        for (int leaf : new int[] {ACCEPT, READ, WRITE}) {
            map(leaf == ACCEPT ? "PENDING" : "MAPPED", UNALIASED, UNALIASED, UNALIASED);
            long entry = td.entry(0, GPA, 0).read() | HOST_PRIORITY;
            td.entry(0, GPA, 0).write(entry);
            assertThat(td.td.tdcall(leaf, GPA, 0, 0)).isTrue();
            assertThat(td.td.guest(SeamRegs.RAX)).as("leaf %d", leaf).isEqualTo(BUSY_RCX);
            assertThat(td.entry(0, GPA, 0).read()).isEqualTo(entry);
            td.tdcs().u64(Tdcs.HP_LOCK_TIMEOUT, 0);
            assertThat(td.td.tdcall(leaf, GPA, 0, 0)).as("too long").isFalse();
            assertThat(td.td.machine.hostRegisters(0).get(SeamRegs.RAX)).isEqualTo(BUSY_TIMEOUT);
            assertThat(td.entry(0, GPA, 0).read()).isEqualTo(entry);
            td.powerOn();
            td.own(PAGE, 0, PageType.REG);
        }
    }
}
