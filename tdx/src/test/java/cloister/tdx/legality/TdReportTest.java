package cloister.tdx.legality;

import static cloister.tdx.legality.TdPair.BUILT;
import static cloister.tdx.legality.TdPair.RAX;
import static cloister.tdx.legality.TdPair.RUNNING;
import static org.assertj.core.api.Assertions.assertThat;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.security.GeneralSecurityException;
import java.security.MessageDigest;
import java.util.Arrays;
import java.util.HashSet;
import javax.crypto.Mac;
import javax.crypto.spec.SecretKeySpec;
import org.junit.jupiter.api.Test;

/// TDREPORT_STRUCT, its MAC and hashes computed here from the structure's definition and the recorded platform's key; and the run-time
/// measurement registers. [TDX-ABI "TDREPORT_STRUCT"], [TDX-BASE "Measurement and Attestation"]
class TdReportTest {
    private static final int EXTEND = 2;
    private static final int REPORT = 4;
    private static final int VERIFY = 22;
    private static final long REPORT_GPA = 0x1000;
    private static final long DATA_GPA = 0x2000;
    private static final long OPERAND_INVALID = 0xC000_0100_0000_0000L;
    private static final long OPERAND_BUSY = 0x8000_0200_0000_0000L;
    private static final long INVALID_REPORTMACSTRUCT = 0xC000_1001_0000_0000L;
    private static final int RTMR_OPERAND = 168;
    private static final int RTMR_LOCK = 0x3f0;
    private static final int INTR_PENDING = 0x9a;

    private static byte[] report(TdPair tds) {
        assertThat(tds.guest(REPORT, REPORT_GPA, DATA_GPA, 0)).isTrue();
        assertThat(tds.guestRegister(RAX)).isZero();
        var report = new byte[1024];
        tds.td.machine.memory.read(tds.hpa(REPORT_GPA), report, 0, report.length);
        return report;
    }

    private static byte[] part(byte[] bytes, int from, int length) {
        return Arrays.copyOfRange(bytes, from, from + length);
    }

    private static byte[] sha384(byte[]... parts) throws GeneralSecurityException {
        var digest = MessageDigest.getInstance("SHA-384");
        for (byte[] part : parts) {
            digest.update(part);
        }
        return digest.digest();
    }

    private static byte[] pattern(int seed) {
        var bytes = new byte[64];
        for (int i = 0; i < bytes.length; i++) {
            bytes[i] = (byte) (seed * 31 + i * 7);
        }
        return bytes;
    }

    private static void write(TdPair tds, long gpa, byte[] bytes) {
        tds.td.machine.memory.write(tds.hpa(gpa), bytes, 0, bytes.length);
    }

    @Test void theMacCoversTheHashesThatCoverTheRest() throws Exception {
        try (var tds = new TdPair()) {
            byte[] data = pattern(1);
            write(tds, DATA_GPA, data);
            byte[] report = report(tds);
            assertThat(part(report, 0, 16)).as("REPORTTYPE and reserved").isEqualTo(new byte[] {(byte) 0x81, 0, 0, 0, 0, 0, 0, 0,
                0, 0, 0, 0, 0, 0, 0, 0});
            assertThat(part(report, 32, 48)).as("TEE_TCB_INFO_HASH").isEqualTo(sha384(part(report, 256, 256)));
            assertThat(part(report, 80, 48)).as("TEE_INFO_HASH").isEqualTo(sha384(part(report, 512, 512)));
            assertThat(part(report, 128, 64)).as("REPORTDATA").isEqualTo(data);
            assertThat(part(report, 192, 32)).as("reserved").isEqualTo(new byte[32]);
            var mac = Mac.getInstance("HmacSHA256");
            mac.init(new SecretKeySpec(tds.td.platform.report.macKey().getBytes(StandardCharsets.US_ASCII), "HmacSHA256"));
            assertThat(part(report, 224, 32)).as("MAC").isEqualTo(mac.doFinal(part(report, 0, 224)));
        }
    }

    @Test void tdInfoSaysThatTheTdIsADebugTd() {
        try (var tds = new TdPair(); var production = new TdPair("run-basic-2")) {
            byte[] info = part(report(tds), 512, 512);
            assertThat(info[0] & 1).as("ATTRIBUTES.DEBUG").isEqualTo(1);
            assertThat(part(info, 8, 8)).as("XFAM").isEqualTo(new byte[] {(byte) 0xe7, 0, 0, 0, 0, 0, 0, 0});
            assertThat(part(info, 16, 48)).as("MRTD").isNotEqualTo(new byte[48]);
            assertThat(part(info, 400, 112)).as("SERVTD_HASH and reserved").isEqualTo(new byte[112]);
            byte[] other = part(report(production), 512, 512);
            assertThat(other[0]).isZero();
            assertThat(part(other, 16, 496)).as("the same but for ATTRIBUTES").isEqualTo(part(info, 16, 496));
        }
    }

    @Test void tdInfoHasTheMeasurementsThatTheHostReads() {
        try (var tds = new TdPair("run-mr-2")) {
            byte[] info = part(report(tds), 512, 512);
            long[][] fields = {{0x1310_0003_0000_0000L, 16}, {0x1310_0003_0000_0010L, 64}, {0x1310_0003_0000_0018L, 112},
                {0x1310_0003_0000_0020L, 160}};
            var seen = new HashSet<Long>();
            for (long[] field : fields) {
                for (int i = 0; i < 6; i++) {
                    var read = tds.call(11, RUNNING, field[0] + i);
                    assertThat(read.get(RAX)).isZero();
                    long word = ByteBuffer.wrap(info).order(ByteOrder.LITTLE_ENDIAN).getLong((int) field[1] + 8 * i);
                    assertThat(word).as("field 0x%x, element %d", field[0], i).isEqualTo(read.get(8));
                    assertThat(seen.add(word)).as("words differ").isTrue();
                }
            }
        }
    }

    @Test void registersChain() throws Exception {
        try (var tds = new TdPair()) {
            var expected = new byte[4][48];
            for (int step = 0; step < 12; step++) {
                int index = step * 5 % 4;
                byte[] data = pattern(step);
                write(tds, 0x1fc0 - 0x40 * (step % 3), data);
                assertThat(tds.guest(EXTEND, 0x1fc0 - 0x40 * (step % 3), index)).isTrue();
                assertThat(tds.guestRegister(RAX)).isZero();
                expected[index] = sha384(expected[index], part(data, 0, 48));
                byte[] info = part(report(tds), 512, 512);
                for (int i = 0; i < 4; i++) {
                    assertThat(part(info, 208 + 48 * i, 48)).as("RTMR%d after step %d", i, step).isEqualTo(expected[i]);
                }
            }
        }
    }

    @Test void serviceTdsRaiseTheReportsVersion() {
        try (var tds = new TdPair().create()) {
            assertThat(report(tds)[2]).isZero();
            tds.td.tdcs.u16(0xd30, 1); // SERVTD_NUM
            assertThat(report(tds)[2]).isEqualTo((byte) 1);
            assertThat(tds.status(48, BUILT, RUNNING)).as("bound").isZero();
        }
    }

    @Test void theReportIsGenuineUntilABitOfItChanges() {
        try (var tds = new TdPair()) {
            byte[] report = report(tds);
            write(tds, DATA_GPA, part(report, 0, 256));
            assertThat(tds.guest(VERIFY, DATA_GPA)).isTrue();
            assertThat(tds.guestRegister(RAX)).isZero();
            for (int at = 0; at < 256; at += 5) {
                byte[] changed = part(report, 0, 256);
                changed[at] ^= (byte) (1 << (at % 8));
                write(tds, DATA_GPA, changed);
                tds.guest(VERIFY, DATA_GPA);
                // The reserved bytes are under the MAC as well.
                assertThat(tds.guestRegister(RAX)).as("byte %d", at).isEqualTo(INVALID_REPORTMACSTRUCT);
            }
        }
    }

    @Test void operandsAreCheckedInOrder() {
        try (var tds = new TdPair()) {
            requireStatus(tds, OPERAND_INVALID | 1, REPORT, 0x1200, 0x2001, 1);
            requireStatus(tds, OPERAND_INVALID | 2, REPORT, 0x1000, 0x2020, 1);
            requireStatus(tds, OPERAND_INVALID | 2, REPORT, 0x1000, 1L << 48, 1);
            requireStatus(tds, OPERAND_INVALID | 8, REPORT, 0x1000, 0x2000, 1L << 63);
            requireStatus(tds, OPERAND_INVALID | 1, REPORT, 1L << 50, 0x2000, 0);
            requireStatus(tds, OPERAND_INVALID | 1, EXTEND, 0x1020, 4);
            requireStatus(tds, OPERAND_INVALID | 1, EXTEND, 1L << 47, 4); // shared
            requireStatus(tds, OPERAND_INVALID | 2, EXTEND, 0x1000, 4);
            requireStatus(tds, OPERAND_INVALID | 2, EXTEND, 0x1000, -1);
            requireStatus(tds, OPERAND_INVALID | 1, VERIFY, 0x1080);
            requireStatus(tds, OPERAND_INVALID | 1, VERIFY, 1L << 47);
        }
    }

    private static void requireStatus(TdPair tds, long status, int leaf, long... operands) {
        assertThat(tds.guest(leaf, operands)).isTrue();
        assertThat(tds.guestRegister(RAX)).as("leaf %d %s", leaf, Arrays.toString(operands)).isEqualTo(status);
    }

    @Test void theRegistersAreLocked() {
        try (var tds = new TdPair()) {
            tds.td.tdcs.u16(RTMR_LOCK, 1);
            requireStatus(tds, OPERAND_BUSY | RTMR_OPERAND, EXTEND, 0x1000, 0);
            requireStatus(tds, OPERAND_BUSY | RTMR_OPERAND, REPORT, 0x1000, 0x2000, 0);
            assertThat(tds.td.tdcs.u16(RTMR_LOCK)).as("the reader that failed is counted").isEqualTo(1 + 4);
            tds.td.tdcs.u16(RTMR_LOCK, 4);
            requireStatus(tds, OPERAND_BUSY | RTMR_OPERAND, EXTEND, 0x1000, 0);
            requireStatus(tds, 0, REPORT, 0x1000, 0x2000, 0);
            assertThat(tds.td.tdcs.u16(RTMR_LOCK)).isEqualTo(4);
        }
    }

    @Test void anInterruptedReportIsFinishedByTheNextCall() {
        try (var tds = new TdPair()) {
            long rip = tds.rip();
            tds.td.machine.cpus[0].wrmsr(INTR_PENDING, 1);
            assertThat(tds.guest(REPORT, REPORT_GPA, DATA_GPA, 0)).isTrue();
            assertThat(tds.guestRegister(RAX)).as("RAX is left").isEqualTo(REPORT);
            assertThat(tds.rip()).as("TDCALL is executed again").isEqualTo(rip);
            assertThat(tds.guest(REPORT, REPORT_GPA, DATA_GPA, 0)).isTrue();
            assertThat(tds.guestRegister(RAX)).isZero();
            assertThat(tds.rip()).isEqualTo(rip + 4);
            assertThat(tds.guest(EXTEND, DATA_GPA, 0)).isTrue();
            tds.guest(REPORT, REPORT_GPA, DATA_GPA, 0);
            assertThat(tds.guestRegister(RAX)).as("another hash to compute").isEqualTo(REPORT);
        }
    }
}
