package cloister.tdx.core;

import static org.assertj.core.api.Assertions.assertThat;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import org.junit.jupiter.api.Test;

class MeasurementTest {
    @Test void aBlockIsTheNameAndTheGpa() throws Exception {
        var block = ByteBuffer.allocate(128).order(ByteOrder.LITTLE_ENDIAN);
        block.put("MEM.PAGE.ADD".getBytes(StandardCharsets.US_ASCII));
        block.putLong(16, 0x8_1234_5000L);
        var digest = Measurement.newDigest();
        Measurement.extend(digest, "MEM.PAGE.ADD", 0x8_1234_5000L);
        assertThat(digest.digest()).isEqualTo(MessageDigest.getInstance("SHA-384").digest(block.array()));
    }

    @Test void partsAreHashedInOrder() {
        assertThat(Measurement.sha384(new byte[] {1}, new byte[] {2})).isEqualTo(Measurement.sha384(new byte[] {1, 2}))
                .isNotEqualTo(Measurement.sha384(new byte[] {2, 1}));
    }
}
