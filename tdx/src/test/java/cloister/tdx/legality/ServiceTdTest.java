package cloister.tdx.legality;

import static cloister.tdx.legality.TdPair.BUILT;
import static cloister.tdx.legality.TdPair.R10;
import static cloister.tdx.legality.TdPair.R8;
import static cloister.tdx.legality.TdPair.RAX;
import static cloister.tdx.legality.TdPair.RCX;
import static cloister.tdx.legality.TdPair.RDX;
import static cloister.tdx.legality.TdPair.RUNNING;
import static org.assertj.core.api.Assertions.assertThat;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.security.MessageDigest;
import java.util.Arrays;
import org.junit.jupiter.api.Test;

/// A service TD is bound to another TD and reads and writes its metadata. [TDX-BASE "Service TDs"]
class ServiceTdTest {
    private static final int BIND = 48;
    private static final int PREBIND = 49;
    private static final int MNG_RD = 11;
    private static final int RD = 18;
    private static final int WR = 20;
    private static final int REPORT = 4;
    private static final int RTMR_EXTEND = 2;
    private static final long BUILT_TD_UUID = 0x8010_0003_0000_0020L;
    private static final long MIG_DEC_KEY = 0x9810_0003_0000_0010L;
    private static final long MIG_ENC_KEY = 0x9810_0003_0000_0018L;
    private static final long MIG_VERSION = 0x9810_0001_0000_0020L;
    private static final long MIG_DEC_KEY_SET = 0x9810_0000_0000_0001L;
    private static final long NUM_VCPUS = 0x9010_0002_0000_0001L;
    private static final long SERVTD_NUM = 0x9910_0001_0000_0006L;
    private static final long SERVTD_BINDINGS_TABLE = 0x9910_0003_0000_0080L;
    private static final long IGNORE_RTMRS = 0xfL << 38;
    private static final long HASH_AT = 0x23_0000;

    private static final long OPERAND_INVALID = 0xC000_0100_0000_0000L;
    private static final long OP_STATE_INCORRECT = 0xC000_0608_0000_0000L;
    private static final long TYPE_OR_ATTR = 0xC000_0D02_0000_0000L;
    private static final long HASH_MISMATCH = 0xC000_0D03_0000_0000L;
    private static final long UUID_MISMATCH = 0xC000_0D04_0000_0000L;
    private static final long NOT_BOUND = 0xC000_0D05_0000_0000L;
    private static final long BOUND = 0xC000_0D06_0000_0000L;
    private static final long TARGET_UUID_MISMATCH = 0xC000_0D07_0000_0000L;
    private static final long TARGET_UUID_UPDATED = 0xC000_0D08_0000_0000L;
    private static final long FIELD_NOT_READABLE = 0xC000_0C02_0000_0000L;
    private static final long FIELD_NOT_WRITABLE = 0xC000_0C01_0000_0000L;
    private static final long FIELD_VALUE_NOT_VALID = 0xC000_0C03_0000_0000L;
    private static final long FIELD_ID_INCORRECT = 0xC000_0C00_0000_0000L;
    private static final long FIRST_FIELD = 0x0000_0C0B_0000_0000L;
    private static final long CROSS_TD_TRAP = 0x9000_0009_0000_0000L;
    private static final long HOST_PRIORITY = 0x8000_0204_0000_0080L;
    private static final long KEYS_NOT_CONFIGURED = 0x8000_0810_0000_0000L;
    private static final long ADDRESS_RANGE = 0xC000_0101_0000_0080L;
    private static final long METADATA_INCORRECT = 0xC000_0300_0000_0080L;

    @Test void operandsOfBindAreCheckedInOrder() {
        try (var tds = new TdPair().create()) {
            assertThat(tds.status(BIND, BUILT, BUILT, 9, 9, -1)).isEqualTo(OPERAND_INVALID | 2);
            assertThat(tds.status(BIND, BUILT + 1, RUNNING)).isEqualTo(OPERAND_INVALID | 1);
            assertThat(tds.status(BIND, BUILT, RUNNING + 1)).isEqualTo(OPERAND_INVALID | 2);
            assertThat(tds.status(BIND, RUNNING, BUILT)).as("the service TD is not built").isEqualTo(OP_STATE_INCORRECT);
            assertThat(tds.status(BIND, BUILT, RUNNING, 1, 1, 2)).isEqualTo(OPERAND_INVALID | 8);
            assertThat(tds.status(BIND, BUILT, RUNNING, 0, 1, 2)).isEqualTo(OPERAND_INVALID | 9);
            assertThat(tds.status(BIND, BUILT, RUNNING, 0, 0x1_0000, 2)).isEqualTo(OPERAND_INVALID | 9);
            for (int bit = 0; bit < 64; bit++) {
                boolean known = bit == 0 || (bit >= 32 && bit <= 42);
                var failed = tds.call(BIND, BUILT, RUNNING, 0, 0, 1L << bit);
                if (!known) {
                    assertThat(failed.get(RAX)).as("SERVTD_ATTR bit %d", bit).isEqualTo(OPERAND_INVALID | 10);
                    assertThat(new long[] {failed.get(RCX), failed.get(RDX), failed.get(R8), failed.get(R10), failed.get(11)})
                            .containsExactly(0, RUNNING, 0, 0, 0);
                }
            }
            assertThat(tds.builtTdcs().u16(0xd32)).as("SERVTD_BINDINGS_LOCK").isZero();
        }
    }

    @Test void theFirstBindingNeedsATdThatIsBeingBuilt() {
        try (var tds = new TdPair().create().init(1).addVp().finish()) {
            assertThat(tds.status(BIND, BUILT, RUNNING)).isEqualTo(OP_STATE_INCORRECT);
            assertThat(tds.status(PREBIND, BUILT, HASH_AT)).isEqualTo(OP_STATE_INCORRECT);
            assertThat(tds.builtTdcs().u16(0xd32)).as("SERVTD_BINDINGS_LOCK").isZero();
        }
    }

    @Test void bindReturnsTheHandleAndTheUuidOfTheTarget() {
        try (var tds = new TdPair().create()) {
            var bound = tds.call(BIND, BUILT, RUNNING);
            assertThat(bound.get(RAX)).isZero();
            assertThat(bound.get(RCX)).isEqualTo(BUILT + tds.td.tdr.u64(0x60));
            for (int i = 0; i < 4; i++) {
                assertThat(bound.get(R10 + i)).isEqualTo(tds.builtTdr().u64(0x60 + 8 * i));
            }
            tds.init(1);
            assertThat(tds.call(MNG_RD, BUILT, SERVTD_NUM).get(R8)).isEqualTo(1);
            assertThat(tds.call(MNG_RD, BUILT, SERVTD_BINDINGS_TABLE).get(R8)).as("state BOUND, type 0").isEqualTo(2);
            assertThat(tds.status(BIND, BUILT, RUNNING)).as("again").isZero();
            assertThat(tds.status(BIND, BUILT, RUNNING, 0, 0, 1)).isEqualTo(TYPE_OR_ATTR);
            assertThat(tds.status(PREBIND, BUILT, HASH_AT)).isEqualTo(BOUND);
            assertThat(tds.call(MNG_RD, BUILT, SERVTD_NUM).get(R8)).isEqualTo(1);
        }
    }

    @Test void operandsOfPrebindAreCheckedInOrder() {
        try (var tds = new TdPair().create()) {
            assertThat(tds.status(PREBIND, BUILT, HASH_AT + 32, 1, 1, 2)).isEqualTo(OPERAND_INVALID | 2);
            assertThat(tds.status(PREBIND, BUILT, 1L << 52, 1, 1, 2)).isEqualTo(OPERAND_INVALID | 2);
            assertThat(tds.status(PREBIND, BUILT, 0x21L << 46, 1, 1, 2)).as("a private KeyID").isEqualTo(OPERAND_INVALID | 2);
            assertThat(tds.status(PREBIND, BUILT, HASH_AT, 1, 1, 2)).isEqualTo(OPERAND_INVALID | 8);
            assertThat(tds.status(PREBIND, BUILT, HASH_AT, 0, 1, 2)).isEqualTo(OPERAND_INVALID | 9);
            assertThat(tds.status(PREBIND, BUILT, HASH_AT, 0, 0, 2)).isEqualTo(OPERAND_INVALID | 10);
        }
    }

    @Test void onlyTheAnnouncedServiceTdIsBound() throws Exception {
        try (var tds = new TdPair().create()) {
            byte[] info = tdInfoOfTheServiceTd(tds);
            tds.td.machine.memory.write(HASH_AT, new byte[48], 0, 48);
            assertThat(tds.status(PREBIND, BUILT, HASH_AT, 0, 0, IGNORE_RTMRS)).isZero();
            assertThat(tds.status(BIND, BUILT, RUNNING, 0, 0, 0)).isEqualTo(TYPE_OR_ATTR);
            assertThat(tds.status(BIND, BUILT, RUNNING, 0, 0, IGNORE_RTMRS)).isEqualTo(HASH_MISMATCH);
            Arrays.fill(info, 208, 400, (byte) 0);
            tds.td.machine.memory.write(HASH_AT, sha384(info), 0, 48);
            assertThat(tds.status(PREBIND, BUILT, HASH_AT, 0, 0, IGNORE_RTMRS)).isZero();
            tds.init(1).addVp().finish();
            assertThat(tds.call(MNG_RD, BUILT, SERVTD_NUM).get(R8)).as("announced twice is one").isEqualTo(1);
            assertThat(tds.status(BIND, BUILT, RUNNING, 0, 0, IGNORE_RTMRS)).as("late").isZero();
        }
    }

    /// TDINFO_STRUCT of the running TD, out of its report.
    private static byte[] tdInfoOfTheServiceTd(TdPair tds) {
        assertThat(tds.guest(REPORT, 0x1000, 0x2000, 0)).isTrue();
        assertThat(tds.guestRegister(RAX)).isZero();
        var info = new byte[512];
        tds.td.machine.memory.read(tds.hpa(0x1000) + 512, info, 0, 512);
        return info;
    }

    private static byte[] sha384(byte[] bytes) throws Exception {
        return MessageDigest.getInstance("SHA-384").digest(bytes);
    }

    @Test void theMeasurementNamesTheServiceTd() throws Exception {
        try (var tds = new TdPair().create()) {
            byte[] info = tdInfoOfTheServiceTd(tds);
            long attributes = (1L << 34) | 1; // without MRTD
            assertThat(tds.status(BIND, BUILT, RUNNING, 0, 0, attributes)).isZero();
            tds.init(1).addVp().finish();
            Arrays.fill(info, 16, 64, (byte) 0);
            var entry = ByteBuffer.allocate(58).order(ByteOrder.LITTLE_ENDIAN).put(sha384(info)).putShort((short) 0)
                    .putLong(attributes);
            assertThat(tds.builtTdcs().bytes(0xd00, 48)).isEqualTo(sha384(entry.array()));
        }
    }

    /// Binds and leaves the handle in RCX and the target's UUID in R10 to R13 of the guest.
    private static long bind(TdPair tds, long attributes) {
        var bound = tds.call(BIND, BUILT, RUNNING, 0, 0, attributes);
        assertThat(bound.get(RAX)).isZero();
        for (int i = 0; i < 4; i++) {
            tds.td.machine.cpus[0].registers()[R10 + i] = bound.get(R10 + i);
        }
        return bound.get(RCX);
    }

    @Test void theServiceTdReadsWhatIsMeantForIt() {
        try (var tds = new TdPair().create()) {
            long handle = bind(tds, 0);
            assertThat(tds.guest(RD, handle, -1)).isTrue();
            assertThat(tds.guestRegister(RAX)).isEqualTo(FIRST_FIELD);
            assertThat(tds.guestRegister(RDX)).isEqualTo(BUILT_TD_UUID);
            assertThat(tds.guest(RD, handle, BUILT_TD_UUID)).isTrue();
            assertThat(tds.guestRegister(RAX)).isZero();
            assertThat(tds.guestRegister(R8)).isEqualTo(tds.builtTdr().u64(0x60));
            assertThat(tds.guestRegister(RDX)).isEqualTo(BUILT_TD_UUID + 1);
            tds.guest(RD, handle, NUM_VCPUS);
            assertThat(tds.guestRegister(RAX)).isEqualTo(FIELD_NOT_READABLE);
            assertThat(tds.guestRegister(RDX)).isEqualTo(-1);
            tds.guest(RD, handle, BUILT_TD_UUID | (1L << 34));
            assertThat(tds.guestRegister(RAX)).isEqualTo(FIELD_ID_INCORRECT);
        }
    }

    @Test void theServiceTdSetsTheMigrationKey() {
        try (var tds = new TdPair().create()) {
            long handle = bind(tds, 0);
            tds.guest(WR, handle, MIG_DEC_KEY + 1, 0x1234, -1);
            assertThat(tds.guestRegister(RAX)).isZero();
            assertThat(tds.guestRegister(R8)).as("the old value").isZero();
            tds.guest(RD, handle, MIG_DEC_KEY + 1);
            assertThat(tds.guestRegister(R8)).isEqualTo(0x1234);
            tds.init(1);
            assertThat(tds.builtTdcs().u8(0x580)).as("MIG_DEC_KEY_SET").isEqualTo(1);
            assertThat(tds.call(MNG_RD, BUILT, MIG_DEC_KEY_SET).get(R8)).isEqualTo(1);
            tds.guest(WR, handle, MIG_VERSION, 1, 0xffff);
            assertThat(tds.guestRegister(RAX)).isEqualTo(FIELD_VALUE_NOT_VALID);
            tds.guest(WR, handle, MIG_VERSION, 0, 0xffff);
            assertThat(tds.guestRegister(RAX)).isZero();
            tds.guest(WR, handle, MIG_ENC_KEY, 0, -1);
            assertThat(tds.guestRegister(RAX)).isEqualTo(FIELD_NOT_WRITABLE);
            tds.guest(RD, handle, MIG_ENC_KEY);
            long key = tds.guestRegister(R8);
            assertThat(key).isEqualTo(tds.builtTdcs().u64(0x5e0)).isNotZero();
            tds.guest(RD, handle, MIG_ENC_KEY + 1);
            assertThat(tds.guestRegister(R8)).as("the rest of that key").isEqualTo(tds.builtTdcs().u64(0x5e8));
            tds.guest(RD, handle, MIG_ENC_KEY);
            assertThat(tds.guestRegister(R8)).as("each reading makes a key").isNotEqualTo(key);
        }
    }

    @Test void whatIsWrongWithTheTargetEndsInATdExit() {
        try (var tds = new TdPair().create()) {
            long handle = BUILT + tds.td.tdr.u64(0x60);
            uuid(tds, 0);
            long rip = tds.rip();
            requireTrap(tds, RD, handle, BUILT, NOT_BOUND);
            tds.enter();
            assertThat(tds.rip()).as("a trap").isEqualTo(rip + 4);
            requireTrap(tds, WR, handle + 0x5000, BUILT + 0x5000, METADATA_INCORRECT);
            tds.enter();
            requireTrap(tds, RD, 0x1000 + tds.td.tdr.u64(0x60), 0x1000, ADDRESS_RANGE);
            tds.enter();
            bind(tds, 0);
            assertThat(tds.guest(RD, handle + 1, BUILT_TD_UUID)).isTrue();
            assertThat(tds.guestRegister(RAX)).isEqualTo(OPERAND_INVALID | 1);
            assertThat(tds.guest(RTMR_EXTEND, 0x1000, 2)).isTrue();
            requireTrap(tds, RD, handle, BUILT, HASH_MISMATCH);
            tds.enter();
            tds.builtTdcs().u64(0xd90 + 16, 5);
            requireTrap(tds, RD, handle, BUILT, UUID_MISMATCH);
            tds.enter();
            tds.builtTdr().u32(0x10, 2);
            requireTrap(tds, RD, handle, BUILT, KEYS_NOT_CONFIGURED);
            tds.enter();
            tds.td.machine.core.pageLock(BUILT).set(2); // The host waits for the TDR.
            requireTrap(tds, RD, handle, BUILT, HOST_PRIORITY);
        }
    }

    @Test void aRtmrThatDoesNotCountMayChange() {
        try (var tds = new TdPair().create()) {
            long handle = bind(tds, IGNORE_RTMRS);
            assertThat(tds.guest(RTMR_EXTEND, 0x1000, 2)).isTrue();
            assertThat(tds.guest(RD, handle, BUILT_TD_UUID)).isTrue();
            assertThat(tds.guestRegister(RAX)).isZero();
        }
    }

    @Test void theUuidOfTheTargetMustBeKnown() {
        try (var tds = new TdPair().create()) {
            long handle = bind(tds, 0);
            uuid(tds, 1);
            assertThat(tds.guest(RD, handle, BUILT_TD_UUID)).isTrue();
            assertThat(tds.guestRegister(RAX)).isEqualTo(TARGET_UUID_MISMATCH);
            for (int i = 0; i < 4; i++) {
                tds.td.machine.cpus[0].registers()[R10 + i] = 0; // PRE_IMPORT_UUID of a TD that was not imported
            }
            assertThat(tds.guest(RD, handle, BUILT_TD_UUID)).isTrue();
            assertThat(tds.guestRegister(RAX)).isEqualTo(TARGET_UUID_UPDATED);
            assertThat(tds.guestRegister(R10)).isEqualTo(tds.builtTdr().u64(0x60));
            assertThat(tds.guest(RD, handle, BUILT_TD_UUID)).isTrue();
            assertThat(tds.guestRegister(RAX)).isZero();
        }
    }

    private static void uuid(TdPair tds, int delta) {
        for (int i = 0; i < 4; i++) {
            tds.td.machine.cpus[0].registers()[R10 + i] = tds.builtTdr().u64(0x60 + 8 * i) + delta;
        }
    }

    private static void requireTrap(TdPair tds, int leaf, long handle, long target, long status) {
        assertThat(tds.guest(leaf, handle, BUILT_TD_UUID, 0, -1)).as("exits").isFalse();
        assertThat(tds.exit(RAX)).isEqualTo(CROSS_TD_TRAP);
        assertThat(new long[] {tds.exit(RCX), tds.exit(RDX), tds.exit(R8), tds.exit(9), tds.exit(R10)})
                .containsExactly(0, status, target, 0, 0);
    }
}
