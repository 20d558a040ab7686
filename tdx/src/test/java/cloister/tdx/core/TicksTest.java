package cloister.tdx.core;

import static org.assertj.core.api.Assertions.assertThat;

import java.math.BigInteger;
import java.util.SplittableRandom;
import org.junit.jupiter.api.Test;

class TicksTest {
    private static final BigInteger LOW = BigInteger.ONE.shiftLeft(64).subtract(BigInteger.ONE);

    private static BigInteger unsigned(long value) {
        return new BigInteger(Long.toUnsignedString(value));
    }

    @Test void productsAndQuotientsHave128BitsInBetween() {
        var random = new SplittableRandom(1);
        for (int i = 0; i < 20_000; i++) {
            long a = random.nextLong() >>> random.nextInt(64);
            long b = (random.nextLong() >>> random.nextInt(63)) | 1;
            int shift = 1 + random.nextInt(63);
            assertThat(Ticks.product48(a, b)).isEqualTo(unsigned(a).multiply(unsigned(b)).shiftRight(48).and(LOW).longValue());
            assertThat(Ticks.scaled(a, shift, b)).as("%x << %d / %x", a, shift, b)
                    .isEqualTo(unsigned(a).shiftLeft(shift).divide(unsigned(b)).and(LOW).longValue());
        }
    }
}
