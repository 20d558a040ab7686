package cloister.tdx.core;

import static org.assertj.core.api.Assertions.assertThat;

import cloister.memory.PhysicalMemory;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import java.util.Random;
import org.junit.jupiter.api.Test;

class MeasurementTest {
    private static final long GPA = 0x8_1234_5000L;

    private static byte[] block(String function, long gpa) {
        return ByteBuffer.allocate(128).order(ByteOrder.LITTLE_ENDIAN).put(function.getBytes(StandardCharsets.US_ASCII)).putLong(16, gpa)
                .array();
    }

    @Test void aBuildIsBlocksWithTheNameAndTheGpaAndTheChunks() throws Exception {
        var chunk = new byte[256];
        for (int i = 0; i < chunk.length; i++) {
            chunk[i] = (byte) (i * 7);
        }
        var expected = MessageDigest.getInstance("SHA-384");
        try (var memory = new PhysicalMemory(1 << 20, 32)) {
            memory.write(0x3100, chunk, 0, chunk.length);
            var measurement = new Measurement();
            for (long gpa : new long[] {GPA, GPA + 0x1000}) { // the second block after the first keeps nothing of it
                measurement.addPage(gpa);
                measurement.extend(gpa + 0x100, memory, 0x3100);
                expected.update(block("MEM.PAGE.ADD", gpa));
                expected.update(block("MR.EXTEND", gpa + 0x100));
                expected.update(chunk);
            }
            assertThat(measurement.finish()).isEqualTo(expected.digest());
        }
    }

    /// A measurement is data: saved in the middle and taken up by another object it ends in the same MRTD.
    @Test void aMeasurementGoesOnFromItsSavedState() throws Exception {
        try (var memory = new PhysicalMemory(1 << 20, 32)) {
            var whole = new Measurement();
            var first = new Measurement();
            whole.addPage(GPA);
            first.addPage(GPA);
            var second = new Measurement();
            second.restore(first.save());
            for (var measurement : new Measurement[] {whole, second}) {
                measurement.extend(GPA, memory, 0x3000);
            }
            assertThat(second.save()).isEqualTo(whole.save()).isNotEqualTo(first.save());
            assertThat(second.finish()).isEqualTo(whole.finish()).isEqualTo(whole.finish());
        }
    }

    /// Against the JDK, block by block, taken in two parts.
    @Test void ownSha384IsSha384() throws Exception {
        var random = new Random(5);
        for (int blocks = 0; blocks < 40; blocks++) {
            var message = new byte[blocks * Sha384.BLOCK];
            random.nextBytes(message);
            var own = new Sha384();
            int half = random.nextInt(blocks + 1);
            own.update(message, 0, half);
            own.update(message, half * Sha384.BLOCK, blocks - half);
            assertThat(own.digest()).as("%d blocks", blocks).isEqualTo(MessageDigest.getInstance("SHA-384").digest(message));
        }
    }

    @Test void partsAreHashedInOrder() {
        assertThat(Measurement.sha384(new byte[] {1}, new byte[] {2})).isEqualTo(Measurement.sha384(new byte[] {1, 2}))
                .isNotEqualTo(Measurement.sha384(new byte[] {2, 1}));
    }
}
