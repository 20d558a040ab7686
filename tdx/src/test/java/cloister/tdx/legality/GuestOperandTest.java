package cloister.tdx.legality;

import static cloister.tdx.legality.TdPair.R8;
import static cloister.tdx.legality.TdPair.RAX;
import static cloister.tdx.legality.TdPair.RCX;
import static cloister.tdx.legality.TdPair.RDX;
import static org.assertj.core.api.Assertions.assertThat;

import cloister.spec.vmx.VmcsField;
import org.junit.jupiter.api.Test;

/// Memory operands of guest-side functions: what becomes of an operand that the guest could not access itself. Shared memory is mapped by
/// a table of the host, private memory by the Secure EPT. [TDX-BASE "Guest-Side Function Memory Operands"]
class GuestOperandTest {
    private static final int RTMR_EXTEND = 2;
    private static final int REPORT = 4;
    private static final int VEINFO_GET = 3;
    private static final long SHARED = 1L << 47;
    private static final long GPA = SHARED | 0x3000;
    private static final long TABLES = 0x30_0000;
    private static final long PAGE = 0x30_8000;
    private static final long R = 1;
    private static final long W = 2;
    private static final long X = 4;
    private static final long WB = 6 << 3;
    private static final long LARGE = 1 << 7;
    private static final long SUPPRESS_VE = 1L << 63;
    private static final long PRIVATE_KEY = 0x21L << 46;
    private static final long VIOLATION = 48;
    private static final long MISCONFIGURATION = 49;
    private static final int VE = 20;
    private static final long PENDING_EXIT = 6;

    /// Maps GPA by a table with one entry on each level, root first; returns where the report should go.
    private static void map(TdPair tds, long... entries) {
        tds.td.machine.core.vmcs(tds.td.machine.cpus[0]).write(VmcsField.SHARED_EPTP, TABLES);
        for (int i = 0; i < entries.length; i++) {
            int level = 3 - i;
            tds.td.machine.memory.write(TABLES + 0x1000L * i + 8 * ((GPA >>> (12 + 9 * level)) & 0x1ff), 8, entries[i]);
        }
    }

    private static void mapPage(TdPair tds, long leaf) {
        map(tds, (TABLES + 0x1000) | R | W | X, (TABLES + 0x2000) | R | W | X, (TABLES + 0x3000) | R | W | X, leaf);
    }

    private static boolean report(TdPair tds) {
        return tds.guest(REPORT, GPA, 0x2000, 0);
    }

    private static void requireExit(TdPair tds, long reason, long qualification, long gpa) {
        assertThat(report(tds)).as("goes on").isFalse();
        assertThat(new long[] {tds.exit(RAX), tds.exit(RCX), tds.exit(RDX), tds.exit(R8)})
                .containsExactly(reason, qualification, 0, gpa);
    }

    private static void requireVe(TdPair tds, long qualification) {
        long rip = tds.rip();
        assertThat(report(tds)).isTrue();
        assertThat(tds.td.machine.core.vmcs(tds.td.machine.cpus[0]).read(VmcsField.ENTRY_INTERRUPTION_INFO) & 0xff).isEqualTo(VE);
        assertThat(tds.rip()).as("a fault").isEqualTo(rip);
        assertThat(tds.guestRegister(RAX)).as("RAX is left").isEqualTo(REPORT);
        tds.guest(VEINFO_GET);
        assertThat(new long[] {tds.guestRegister(RCX), tds.guestRegister(RDX), tds.guestRegister(R8), tds.guestRegister(9)})
                .containsExactly(VIOLATION, qualification, 0, GPA);
    }

    @Test void sharedMemoryIsWrittenThroughTheHostsTable() {
        try (var tds = new TdPair()) {
            mapPage(tds, PAGE | R | W | WB);
            assertThat(report(tds)).isTrue();
            assertThat(tds.guestRegister(RAX)).isZero();
            assertThat(tds.td.machine.memory.read(PAGE, 4)).isEqualTo(0x81);
        }
    }

    @Test void anEntryThatIsNotThereRaisesVeUnlessSuppressed() {
        try (var tds = new TdPair()) {
            mapPage(tds, 0);
            requireVe(tds, 3);
            mapPage(tds, SUPPRESS_VE);
            requireExit(tds, VIOLATION, 3, GPA);
        }
    }

    @Test void aPageThatIsReadOnlyIsAViolation() {
        try (var tds = new TdPair()) {
            mapPage(tds, PAGE | R | WB);
            requireVe(tds, 2 | (R << 3));
            mapPage(tds, PAGE | R | X | WB | SUPPRESS_VE);
            requireExit(tds, VIOLATION, 2 | ((R | X) << 3), GPA);
            tds.enter();
            // Bit 63 of an entry that leads to another table is not looked at, and makes the violation one for the host.
            map(tds, (TABLES + 0x1000) | R);
            requireExit(tds, VIOLATION, 2 | (R << 3), GPA);
        }
    }

    @Test void violationsComeBeforeTheCheckOfAPagesAddress() {
        try (var tds = new TdPair()) {
            mapPage(tds, PAGE | PRIVATE_KEY | R | WB | SUPPRESS_VE);
            requireExit(tds, VIOLATION, 2 | (R << 3), GPA);
            tds.enter();
            mapPage(tds, PAGE | PRIVATE_KEY | R | W | WB | SUPPRESS_VE);
            requireExit(tds, MISCONFIGURATION, 0, GPA);
        }
    }

    @Test void malformedEntriesAreMisconfigurations() {
        long table1 = (TABLES + 0x1000) | R | W;
        long table2 = (TABLES + 0x2000) | R | W;
        long table3 = (TABLES + 0x3000) | R | W;
        long[][] malformed = {
            {table1, table2, table3, PAGE | W | WB},
            {table1, table2, table3, PAGE | R | W | (2 << 3)},
            {table1, table2, table3, PAGE | R | W | (3 << 3)},
            {table1, table2, table3, PAGE | R | W | (7 << 3)},
            {table1, table2, PAGE | R | W | WB | LARGE},
            {table1, PAGE | R | W | WB | LARGE},
            {table1 | LARGE},
            {table1 | (1 << 3)},
            {table1, table2 | (1 << 6)},
            {table1, table2 | PRIVATE_KEY},
        };
        try (var tds = new TdPair()) {
            for (long[] entries : malformed) {
                map(tds, entries);
                requireExit(tds, MISCONFIGURATION, 0, GPA);
                tds.enter();
            }
        }
    }

    @Test void aLargeSharedPageIsUsedAtItsOffset() {
        try (var tds = new TdPair()) {
            map(tds, (TABLES + 0x1000) | R | W | X, (TABLES + 0x2000) | R | W | X, 0x40_0000 | R | W | WB | LARGE);
            assertThat(report(tds)).isTrue();
            assertThat(tds.td.machine.memory.read(0x40_3000, 4)).isEqualTo(0x81);
        }
    }

    @Test void privateMemoryThatIsNotThereIsTheHostsToProvide() {
        try (var tds = new TdPair()) {
            assertThat(tds.guest(RTMR_EXTEND, 0x9040, 0)).isFalse();
            assertThat(new long[] {tds.exit(RAX), tds.exit(RCX), tds.exit(RDX), tds.exit(R8)})
                    .containsExactly(VIOLATION, 1, 0, 0x9000);
            tds.enter();
            assertThat(tds.guestRegister(RCX)).as("the call is made again").isEqualTo(0x9040);
        }
    }

    @Test void pendingMemoryRaisesVeOrGoesToTheHost() {
        try (var tds = new TdPair()) {
            assertThat(tds.status(6, 0x3000, TdPair.RUNNING, TdPair.FREE)).as("TDH.MEM.PAGE.AUG").isZero();
            assertThat(tds.guest(RTMR_EXTEND, 0x3080, 0)).isTrue();
            tds.guest(VEINFO_GET);
            assertThat(new long[] {tds.guestRegister(RCX), tds.guestRegister(RDX), tds.guestRegister(R8), tds.guestRegister(9)})
                    .containsExactly(VIOLATION, 1, 0, 0x3080);
            tds.td.tdcs.u64(0x120, 1); // TD_CTLS.PENDING_VE_DISABLE
            assertThat(tds.guest(RTMR_EXTEND, 0x3080, 0)).isFalse();
            assertThat(new long[] {tds.exit(RAX), tds.exit(RCX), tds.exit(RDX), tds.exit(R8)})
                    .containsExactly(VIOLATION, 1, PENDING_EXIT, 0x3000);
        }
    }
}
