package cloister.tdx.legality;

import static cloister.tdx.legality.TdPair.BUILT;
import static cloister.tdx.legality.TdPair.FREE;
import static cloister.tdx.legality.TdPair.R10;
import static cloister.tdx.legality.TdPair.R8;
import static cloister.tdx.legality.TdPair.RAX;
import static cloister.tdx.legality.TdPair.RCX;
import static cloister.tdx.legality.TdPair.RDX;
import static cloister.tdx.legality.TdPair.RUNNING;
import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import cloister.tdx.core.ModuleHalt;
import org.junit.jupiter.api.Test;

/// Migration functions on every TD that can be built without migrating one: what they check before an export or import begins. [TDX-MIG]
class MigrationTest {
    private static final int STREAM_CREATE = 96;
    private static final int EXPORT_IMMUTABLE = 72;
    private static final int EXPORT_RESTORE = 66;
    private static final int EXPORT_UNBLOCKW = 75;
    private static final int IMPORT_IMMUTABLE = 85;
    private static final int IMPORT_ABORT = 80;
    private static final int BIND = 48;
    private static final int SERVTD_WR = 20;
    private static final int MNG_RD = 11;
    private static final long MIGRATABLE = 1L << 29;
    private static final long MIG_DEC_KEY = 0x9810_0003_0000_0010L;
    private static final long MIG_DEC_KEY_SET = 0x9810_0000_0000_0001L;
    private static final long MIGSC_LINKS = 0x9A10_0003_0000_0000L;
    private static final long OP_STATE = 0x9010_0002_0000_0004L;
    private static final int MIG_LOCK = 0x660;
    private static final int MIG_COUNT = 0x630;
    private static final int LINKS = 0x5000;

    private static final long MBMD = 0x24_0000;
    private static final long MBMD_SIZE = 48L << 52;
    private static final long LIST = 0x24_1000;
    private static final long RESUME = 1L << 63;
    private static final long FATAL = 1L << 61;
    private static final long OPERAND_INVALID = 0xC000_0100_0000_0000L;
    private static final long OPERAND_BUSY = 0x8000_0200_0000_0000L;
    private static final long LIMIT_CPUID = 0xC000_0901_0000_0000L;
    private static final long OP_STATE_INCORRECT = 0xC000_0608_0000_0000L;
    private static final long INVALID_MBMD = 0xC000_0E00_0000_0000L;
    private static final long STREAM_STATE = 0xC000_0E05_0000_0000L;
    private static final long KEY_NOT_SET = 0xC000_0E08_0000_0000L;
    private static final long NOT_MIGRATABLE = 0xC000_0E09_0000_0000L;
    private static final long CLEANUP_INCOMPLETE = 0xC000_0E0A_0000_0000L;
    private static final long MORE_STREAMS_THAN_CREATED = 0xC000_0E0B_0000_0000L;
    private static final long MIN_STREAMS = 0xC000_0E14_0000_0000L;
    private static final long WALK_FAILED = 0xC000_0B00_0000_0001L;
    private static final long ENTRY_STATE = 0xC000_0B0D_0000_0001L;

    private static void streams(TdPair tds, int count) {
        for (int i = 0; i < count; i++) {
            assertThat(tds.status(STREAM_CREATE, FREE + 0x1000 * i, BUILT)).isZero();
        }
    }

    private static long pages(int last) {
        return LIST | ((long) last << 55);
    }

    private static void setKey(TdPair tds) {
        var bound = tds.call(BIND, BUILT, RUNNING);
        assertThat(bound.get(RAX)).isZero();
        for (int i = 0; i < 4; i++) {
            tds.td.machine.cpus[0].registers()[R10 + i] = bound.get(R10 + i);
        }
        assertThat(tds.guest(SERVTD_WR, bound.get(RCX), MIG_DEC_KEY, 7, -1)).isTrue();
        assertThat(tds.guestRegister(RAX)).isZero();
    }

    @Test void streamsAreLinkedInOrder() {
        try (var tds = new TdPair().create()) {
            streams(tds, 2);
            assertThat(tds.status(STREAM_CREATE, FREE, BUILT)).as("the page is taken").isEqualTo(0xC000_0300_0000_0001L);
            tds.init(1);
            assertThat(tds.call(MNG_RD, BUILT, MIGSC_LINKS + 1).get(R8)).isEqualTo(FREE + 0x1000);
            assertThat(tds.td.machine.memory.read(tds.builtTdr().withKey(FREE + 0x1000), 8)).as("MIGSC index").isEqualTo(1);
            tds.builtTdcs().u16(MIG_LOCK, 1);
            assertThat(tds.status(STREAM_CREATE, FREE + 0x2000, BUILT)).isEqualTo(OPERAND_BUSY | 173);
            assertThat(tds.builtTdcs().u16(MIG_LOCK)).isEqualTo(1);
            assertThat(tds.builtTdcs().u16(0xc)).as("OP_STATE lock").isZero();
        }
    }

    @Test void anExportNeedsAMigratableTdStreamsAndAKey() {
        try (var tds = new TdPair().create()) {
            setKey(tds);
            tds.init(MIGRATABLE).addVp().finish();
            var tdcs = tds.builtTdcs();
            assertThat(tds.status(EXPORT_IMMUTABLE, RUNNING, 5, -1, -1, -1)).isEqualTo(NOT_MIGRATABLE);
            streams(tds, 1);
            assertThat(tds.call(EXPORT_IMMUTABLE, BUILT, 5, -1, -1, -1).get(RDX)).isZero();
            assertThat(tds.status(EXPORT_IMMUTABLE, BUILT, 0, -1, -1, -1)).as("one stream").isEqualTo(MIN_STREAMS);
            assertThat(tds.status(STREAM_CREATE, FREE + 0x1000, BUILT)).isZero();
            tdcs.u64(MIG_COUNT, 1);
            assertThat(tds.status(EXPORT_IMMUTABLE, BUILT, 0, -1, -1, -1)).isEqualTo(CLEANUP_INCOMPLETE);
            tdcs.u64(MIG_COUNT, 0);
            assertThat(tds.status(EXPORT_IMMUTABLE, BUILT, 0, MBMD | (47L << 52), 0, 1)).isEqualTo(OPERAND_INVALID | 8);
            assertThat(tds.status(EXPORT_IMMUTABLE, BUILT, 0, (MBMD + 64) | MBMD_SIZE, 0, 1)).isEqualTo(OPERAND_INVALID | 8);
            assertThat(tds.status(EXPORT_IMMUTABLE, BUILT, 0, MBMD | (0x21L << 46) | MBMD_SIZE, 0, 1)).isEqualTo(OPERAND_INVALID | 8);
            for (int bit = 0; bit < 63; bit++) {
                assertThat(tds.status(EXPORT_IMMUTABLE, BUILT, 0, MBMD | MBMD_SIZE, 0, 1L << bit)).isEqualTo(OPERAND_INVALID | 10);
            }
            assertThat(tds.status(EXPORT_IMMUTABLE, BUILT, 0, MBMD | MBMD_SIZE, 0, RESUME)).isEqualTo(STREAM_STATE);
            assertThat(tds.status(EXPORT_IMMUTABLE, BUILT, 0, MBMD | MBMD_SIZE, pages(2), 0)).isEqualTo(OPERAND_INVALID | 9);
            assertThat(tds.status(EXPORT_IMMUTABLE, BUILT, 0, MBMD | MBMD_SIZE, pages(3) | 1, 0)).isEqualTo(OPERAND_INVALID | 9);
            assertThat(tds.status(EXPORT_IMMUTABLE, BUILT, 0, MBMD | MBMD_SIZE, pages(3) | (1L << 52), 0)).isEqualTo(OPERAND_INVALID | 9);
            tdcs.u64(LINKS + 8, tdcs.u64(LINKS + 8) | 1);
            assertThat(tds.status(EXPORT_IMMUTABLE, BUILT, 0, MBMD | MBMD_SIZE, 0, 0)).isEqualTo(OPERAND_BUSY | 171);
            tdcs.u64(LINKS + 8, tdcs.u64(LINKS + 8) & ~1L);
            assertThat(new int[] {tdcs.u16(MIG_LOCK), tdcs.u16(0xc)}).as("locks").containsOnly(0);
            assertThatThrownBy(() -> tds.status(EXPORT_IMMUTABLE, BUILT, 0, MBMD | MBMD_SIZE, pages(3), 0))
                    .isInstanceOf(ModuleHalt.class).hasMessageContaining("TDH.EXPORT.STATE.IMMUTABLE");
        }
    }

    @Test void anExportWithoutAKeyIsRefused() {
        try (var tds = new TdPair().create().init(MIGRATABLE).addVp().finish()) {
            streams(tds, 2);
            assertThat(tds.status(EXPORT_IMMUTABLE, BUILT, 0, MBMD | MBMD_SIZE, pages(2), 0)).isEqualTo(OPERAND_INVALID | 9);
            assertThat(tds.status(EXPORT_IMMUTABLE, BUILT, 0, MBMD | MBMD_SIZE, pages(3), 0)).isEqualTo(KEY_NOT_SET);
        }
    }

    @Test void anImportNeedsStreamsAndAKey() {
        try (var tds = new TdPair().create()) {
            streams(tds, 1);
            var refused = tds.call(IMPORT_IMMUTABLE, BUILT, 5, 0, 0, 1);
            assertThat(new long[] {refused.get(RAX), refused.get(RCX), refused.get(RDX)}).containsExactly(MIN_STREAMS, 0, 0);
            assertThat(tds.status(STREAM_CREATE, FREE + 0x1000, BUILT)).isZero();
            assertThat(tds.status(IMPORT_IMMUTABLE, BUILT, 0, 0, 0, 1)).isEqualTo(OPERAND_INVALID | 10);
            assertThat(tds.status(IMPORT_IMMUTABLE, BUILT, 0, 0, 0, RESUME)).isEqualTo(STREAM_STATE);
            assertThat(tds.status(IMPORT_IMMUTABLE, BUILT, 0, 0, 0, 0)).isEqualTo(KEY_NOT_SET);
            assertThat(tds.builtTdcs().u32(8)).as("OP_STATE").isZero();
            long miscEnable = tds.td.machine.cpus[1].rdmsr(0x1a0);
            tds.td.machine.cpus[1].wrmsr(0x1a0, miscEnable | (1 << 22));
            assertThat(tds.status(IMPORT_IMMUTABLE, BUILT + 1, 0, 0, 0, 1)).isEqualTo(LIMIT_CPUID);
        }
    }

    /// The MBMD of an immutable state with one page of system metadata, changed by `xor` at byte `at`.
    private static long importWith(TdPair tds, int at, long xor, int lastPage) {
        var memory = tds.td.machine.memory;
        memory.write(MBMD, 8, 48);
        memory.write(MBMD + 8, 8, 0);
        memory.write(MBMD + 24, 8, 1 | (1L << 32));
        memory.write(MBMD + at, 1, memory.read(MBMD + at, 1) ^ xor);
        return tds.status(IMPORT_IMMUTABLE, BUILT, 0, MBMD | MBMD_SIZE, pages(lastPage), 0);
    }

    @Test void anImportThatFailsAfterItsBeginLeavesTheTdInFailedImport() {
        int[] zero = {0, 2, 4, 6, 7, 8, 12, 26, 29, 30, 31};
        for (int at : zero) {
            try (var tds = new TdPair().create()) {
                streams(tds, 2);
                setKey(tds);
                assertThat(importWith(tds, at, 0x40, 2)).as("MBMD byte %d", at).isEqualTo(INVALID_MBMD | FATAL);
                assertThat(tds.builtTdcs().u32(8)).as("OP_STATE").isEqualTo(10);
            }
        }
        try (var tds = new TdPair().create()) {
            streams(tds, 2);
            setKey(tds);
            assertThat(importWith(tds, 24, 3, 2)).isEqualTo(MORE_STREAMS_THAN_CREATED | FATAL);
        }
        try (var tds = new TdPair().create()) {
            streams(tds, 2);
            setKey(tds);
            assertThat(importWith(tds, 28, 1, 2)).as("no system metadata").isEqualTo(INVALID_MBMD | FATAL);
        }
        try (var tds = new TdPair().create()) {
            streams(tds, 2);
            setKey(tds);
            assertThat(importWith(tds, 28, 2, 3)).as("3 pages of system metadata").isEqualTo(OPERAND_INVALID | FATAL | 9);
        }
        try (var tds = new TdPair().create()) {
            streams(tds, 2);
            setKey(tds);
            assertThat(tds.status(IMPORT_IMMUTABLE, BUILT, 0, MBMD | (47L << 52), 0, 0)).isEqualTo(OPERAND_INVALID | FATAL | 8);
        }
        try (var tds = new TdPair().create()) {
            streams(tds, 2);
            setKey(tds);
            tds.td.machine.memory.write(LIST, 8, 1);
            assertThat(importWith(tds, 0, 0, 2)).isEqualTo(OPERAND_INVALID | FATAL | 95);
        }
    }

    @Test void aFailedImportCanBeLookedAtAndAborted() {
        try (var tds = new TdPair().create()) {
            streams(tds, 3);
            setKey(tds);
            long key = tds.builtTdcs().u64(0x5e0);
            assertThat(importWith(tds, 7, 1, 2)).isEqualTo(INVALID_MBMD | FATAL);
            assertThat(tds.call(MNG_RD, BUILT, OP_STATE).get(R8)).isEqualTo(10);
            assertThat(tds.call(MNG_RD, BUILT, MIG_DEC_KEY_SET).get(R8)).isZero();
            assertThat(tds.call(MNG_RD, BUILT, MIGSC_LINKS + 1).get(R8)).as("initialised, unlocked").isEqualTo(FREE + 0x1002);
            assertThat(tds.builtTdcs().u64(0x600)).as("MIG_ENC_WORKING_KEY").isEqualTo(key);
            assertThat(tds.builtTdcs().u64(0x5c0)).as("MIG_DEC_WORKING_KEY").isEqualTo(7);
            assertThat(tds.status(IMPORT_IMMUTABLE, BUILT, 0, 0, 0, 0)).isEqualTo(OP_STATE_INCORRECT);
            assertThat(tds.status(IMPORT_ABORT, BUILT, 0, 0, 0, 1)).isEqualTo(OPERAND_INVALID | 10);
            assertThat(tds.status(IMPORT_ABORT, BUILT, 0, 0, 0, 0)).isEqualTo(OPERAND_INVALID | 8);
            assertThatThrownBy(() -> tds.status(IMPORT_ABORT, BUILT, 0, MBMD | MBMD_SIZE, 0, 0)).isInstanceOf(ModuleHalt.class)
                    .hasMessageContaining("TDH.IMPORT.ABORT");
        }
    }

    private static long list(TdPair tds, long... entries) {
        for (int i = 0; i < entries.length; i++) {
            tds.td.machine.memory.write(LIST + 8 * i, 8, entries[i]);
        }
        return LIST | ((long) (entries.length - 1) << 55);
    }

    private static long entry(TdPair tds, int index) {
        return tds.td.machine.memory.read(LIST + 8 * index, 8);
    }

    @Test void pagesThatWereNotExportedAreNotRestored() {
        long migrate = 1L << 52;
        long status = 1L << 56;
        try (var tds = new TdPair()) {
            long info = list(tds, 0x1000 | migrate, 0x60_0000 | migrate, 0x2000 | (2 * migrate), 0x2000 | (3 * migrate) | (7 << 7));
            tds.td.entry(0x2000, 0).write(tds.td.entry(0x2000, 0).read() | (1 << 11));
            var done = tds.call(EXPORT_RESTORE, info, RUNNING);
            assertThat(done.get(RAX)).as("three entries failed").isEqualTo(3);
            assertThat(done.get(RCX)).isEqualTo(info | (4 << 3));
            assertThat(entry(tds, 0)).isEqualTo(0x1000 | (4 * status));
            assertThat(entry(tds, 1)).isEqualTo(0x60_0000 | (2 * status));
            assertThat(entry(tds, 2)).isEqualTo(0x2000 | status);
            assertThat(entry(tds, 3)).isEqualTo(0x2000 | (7 << 7) | (3 * status));
            assertThat((tds.td.entry(0x2000, 0).read() >>> 52) & 1).as("host priority of the locked entry").isEqualTo(1);
            assertThat((tds.td.entry(0x1000, 0).read() >>> 11) & 1).as("the other is unlocked").isZero();
        }
    }

    @Test void aMalformedListEntryEndsTheList() {
        long migrate = 1L << 52;
        try (var tds = new TdPair()) {
            for (long bad : new long[] {1, 2, 1 << 3, 1 << 6, 1L << 54, 1L << 61, migrate | (1L << 47)}) {
                long info = list(tds, 0, bad, 0);
                var done = tds.call(EXPORT_RESTORE, info, RUNNING);
                assertThat(done.get(RAX)).isEqualTo(OPERAND_INVALID | 97);
                assertThat(done.get(RCX)).isEqualTo(info | (1 << 3));
                assertThat(entry(tds, 1)).isEqualTo((bad & ~migrate) | (15L << 56));
                assertThat(entry(tds, 2)).isZero();
            }
            assertThat(tds.status(EXPORT_RESTORE, LIST | 1, RUNNING)).isEqualTo(OPERAND_INVALID | 1);
            assertThat(tds.status(EXPORT_RESTORE, LIST | (1 << 3), RUNNING)).as("first after last").isEqualTo(OPERAND_INVALID | 1);
            assertThat(tds.status(EXPORT_RESTORE, LIST | (1L << 52), RUNNING)).isEqualTo(OPERAND_INVALID | 1);
            assertThat(tds.status(EXPORT_RESTORE, LIST | (0x21L << 46), RUNNING)).isEqualTo(OPERAND_INVALID | 1);
            tds.td.tdcs.u16(0xa0, 1);
            assertThat(tds.status(EXPORT_RESTORE, LIST | 1, RUNNING)).as("the tree first").isEqualTo(OPERAND_BUSY | 146);
        }
    }

    @Test void aListThatWasInterruptedGoesOn() {
        try (var tds = new TdPair()) {
            long info = list(tds, 0x1000 | (1L << 52), 0, 0);
            tds.td.machine.cpus[1].wrmsr(0x9a, 2); // an NMI
            var first = tds.call(EXPORT_RESTORE, info, RUNNING);
            assertThat(new long[] {first.get(RAX), first.get(RCX)}).containsExactly(0x8000_0003_0000_0000L, info | (1 << 3));
            var second = tds.call(EXPORT_RESTORE, first.get(RCX), RUNNING);
            assertThat(new long[] {second.get(RAX), second.get(RCX)}).containsExactly(0x8000_0003_0000_0000L, info | (2 << 3));
            assertThat(entry(tds, 2)).isZero();
            var last = tds.call(EXPORT_RESTORE, second.get(RCX), RUNNING);
            assertThat(last.get(RAX)).as("what failed before is not counted again").isZero();
            assertThat(last.get(RCX)).isEqualTo(info | (3 << 3));
        }
    }

    @Test void aPageThatIsNotBlockedForWritingIsNotUnblocked() {
        try (var tds = new TdPair()) {
            assertThat(tds.status(EXPORT_UNBLOCKW, 0x1001, RUNNING)).isEqualTo(OPERAND_INVALID | 1);
            var refused = tds.call(EXPORT_UNBLOCKW, 0x1000, RUNNING);
            assertThat(refused.get(RAX)).isEqualTo(ENTRY_STATE);
            assertThat(refused.get(RDX)).as("level 0, MAPPED").isEqualTo(4 << 8);
            assertThat(tds.status(EXPORT_UNBLOCKW, 0x60_0000, RUNNING)).isEqualTo(WALK_FAILED);
            tds.td.entry(0x1000, 0).write(tds.td.entry(0x1000, 0).read() | (1 << 11));
            var busy = tds.call(EXPORT_UNBLOCKW, 0x1000, RUNNING);
            assertThat(new long[] {busy.get(RAX), busy.get(RCX), busy.get(RDX)}).containsExactly(OPERAND_BUSY | 1, 0, 0);
        }
    }
}
