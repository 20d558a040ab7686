package cloister.kvm.mmu;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import cloister.sim.RoundRobin;
import cloister.spec.kvm.KvmAbi;
import java.util.BitSet;
import java.util.Random;
import org.junit.jupiter.api.Test;

final class MemoryAttributesTest {
    @Test void agreesWithABitForEachFrame() {
        for (int seed = 0; seed < 50; seed++) {
            var random = new Random(seed);
            var attributes = new MemoryAttributes();
            var model = new BitSet();
            long base = random.nextBoolean() ? 0 : 1L << 40;
            for (int i = 0; i < 200; i++) {
                int first = random.nextInt(300);
                int end = first + 1 + random.nextInt(40);
                boolean isPrivate = random.nextBoolean();
                var before = (BitSet) model.clone();
                model.set(first, end, isPrivate);
                before.xor(model);
                assertThat(attributes.set(base + first, base + end, isPrivate)).isEqualTo(before.cardinality());
                int at = random.nextInt(300);
                int to = at + 1 + random.nextInt(60);
                int ones = model.get(at, to).cardinality();
                assertThat(attributes.isPrivate(base + at)).isEqualTo(model.get(at));
                assertThat(attributes.isUniform(base + at, base + to)).isEqualTo(ones == 0 || ones == to - at);
                assertThat(attributes.has(base + at, base + to, true)).isEqualTo(ones == to - at);
            }
        }
    }

    /// Was an ArithmeticException.
    @Test void framesAbove31BitsHaveAttributes() {
        try (var f = new MmuFixture(64L << 20, MmuParameters.DEFAULT, true, new RoundRobin())) {
            long gpa = 1L << 45;
            assertThat(f.mmu.setAttributes(gpa, 0x2000, KvmAbi.MEMORY_ATTRIBUTE_PRIVATE)).isEqualTo(2);
            assertThat(f.mmu.attributes().isPrivate((gpa >>> 12) + 1)).isTrue();
            assertThat(f.mmu.setAttributes(0, -0x1000, KvmAbi.MEMORY_ATTRIBUTE_PRIVATE)).as("all addresses at once").isPositive();
        }
    }

    @Test void badRangesAreRefused() {
        try (var f = new MmuFixture(64L << 20, MmuParameters.DEFAULT, true, new RoundRobin())) {
            long[][] bad = {{0, 0, 8}, {0, 0x800, 8}, {8, 0x1000, 8}, {-0x1000, 0x2000, 8}, {0, 0x1000, 1}, {0, 0x1000, 9}};
            for (long[] b : bad) {
                assertThatThrownBy(() -> f.mmu.setAttributes(b[0], b[1], b[2])).hasMessageContaining("EINVAL");
            }
        }
        try (var f = new MmuFixture()) {
            assertThatThrownBy(() -> f.mmu.setAttributes(0, 0x1000, 8)).as("an ordinary VM").hasMessageContaining("EINVAL");
            assertThat(f.mmu.setAttributes(0, 0x1000, 0)).isZero();
        }
    }
}
