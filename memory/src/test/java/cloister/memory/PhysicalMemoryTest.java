package cloister.memory;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import java.util.ArrayList;
import java.util.List;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;

class PhysicalMemoryTest {
    private static final int SHARED = 3;
    private static final int PRIVATE = 40;
    private static final long FRAME = 0x5000;
    private static final long SECRET = 0x1122334455667788L;

    private final PhysicalMemory memory = new PhysicalMemory(1 << 20, 32);

    @AfterEach void close() {
        memory.close();
    }

    @Test void anAddressCarriesItsKey() {
        long hpa = PhysicalMemory.hpa(FRAME, PRIVATE);
        assertThat(hpa).isEqualTo(FRAME | (40L << 46));
        assertThat(PhysicalMemory.keyId(hpa)).isEqualTo(PRIVATE);
        assertThat(PhysicalMemory.pa(hpa)).isEqualTo(FRAME);
    }

    @Test void theOwnerReadsWhatItWrote() {
        keepSecret();
        assertThat(memory.read(PhysicalMemory.hpa(FRAME, PRIVATE), 8)).isEqualTo(SECRET);
        assertThat(memory.ownerOfLine(FRAME)).isEqualTo(PRIVATE);
        assertThat(memory.ownerOfLine(FRAME + 64)).isZero();
        assertThat(memory.ownedWhollyBy(FRAME, PRIVATE)).isFalse();
    }

    @Test void theHostReadsZerosFromPrivateMemory() {
        keepSecret();
        assertThat(memory.read(FRAME, 8)).isZero();
        assertThat(memory.read(PhysicalMemory.hpa(FRAME, SHARED), 8)).isZero();
    }

    @Test void anotherSharedKeyReadsCiphertext() {
        memory.write(PhysicalMemory.hpa(FRAME, SHARED), 8, SECRET);
        assertThat(memory.read(FRAME, 8)).isNotEqualTo(SECRET).isNotZero();
    }

    @Test void aPrivateKeyThatReadsForeignMemoryIsPoisoned() {
        memory.write(FRAME, 8, SECRET);
        assertThatThrownBy(() -> memory.read(PhysicalMemory.hpa(FRAME, PRIVATE), 8)).isInstanceOf(Poison.class)
                .satisfies(e -> assertThat(((Poison) e).hpa()).isEqualTo(PhysicalMemory.hpa(FRAME, PRIVATE)));
    }

    @Test void aWholeLineWriteTakesOwnershipWithoutReading() {
        keepSecret();
        memory.movdir64b(FRAME, new byte[64], 0);
        assertThat(memory.ownerOfLine(FRAME)).isZero();
        assertThat(memory.read(FRAME, 8)).isZero();
        assertThatThrownBy(() -> memory.read(PhysicalMemory.hpa(FRAME, PRIVATE), 8)).isInstanceOf(Poison.class);
    }

    @Test void linesAreClearedWithoutReading() {
        keepSecret();
        var heard = new ArrayList<Long>();
        memory.addOwnerListener(heard::add);
        memory.clearLines(FRAME, 1);
        assertThat(memory.ownerOfLine(FRAME)).isZero();
        assertThat(memory.read(FRAME, 8)).isZero();
        assertThat(heard).contains(FRAME >> 12);
        memory.write(PhysicalMemory.hpa(FRAME, SHARED) + 4088, 8, SECRET);
        memory.clearLines(PhysicalMemory.hpa(FRAME, PRIVATE), PhysicalMemory.LINES_PER_FRAME);
        assertThat(memory.ownedWhollyBy(FRAME, PRIVATE)).isTrue();
        assertThat(memory.read(PhysicalMemory.hpa(FRAME, PRIVATE) + 4088, 8)).isZero();
    }

    @Test void clearingSomeLinesKeepsTheOthers() {
        memory.write(FRAME, 8, SECRET);
        memory.write(FRAME + 64, 8, SECRET);
        memory.write(FRAME + 192, 8, SECRET);
        memory.clearLines(FRAME + 64, 2);
        assertThat(memory.read(FRAME, 8)).isEqualTo(SECRET);
        assertThat(memory.read(FRAME + 64, 8)).isZero();
        assertThat(memory.read(FRAME + 192, 8)).isEqualTo(SECRET);
    }

    @Test void withoutEncryptionEveryKeyReadsWhatIsThere() {
        try (var plain = PhysicalMemory.unencrypted(1 << 20, 32)) {
            plain.write(PhysicalMemory.hpa(FRAME, SHARED), 8, SECRET);
            assertThat(plain.read(FRAME, 8)).isEqualTo(SECRET);
            plain.forgetKey(SHARED);
            assertThat(plain.read(PhysicalMemory.hpa(FRAME, PRIVATE), 8)).isEqualTo(SECRET);
            plain.write(PhysicalMemory.hpa(FRAME + 4, PRIVATE), 2, 0);
            assertThat(plain.read(FRAME, 8)).isEqualTo(0x1122000055667788L);
            assertThat(plain.ownerOfLine(FRAME)).isEqualTo(PRIVATE);
        }
    }

    @Test void aFrameIsCopiedFromItsOwnerToAnother() {
        keepSecret();
        memory.fill(PhysicalMemory.hpa(FRAME, PRIVATE), 4096, (byte) 7);
        memory.copyFrame(PhysicalMemory.hpa(FRAME, PRIVATE), PhysicalMemory.hpa(0x9000, SHARED));
        assertThat(memory.ownedWhollyBy(0x9000, SHARED)).isTrue();
        assertThat(memory.read(PhysicalMemory.hpa(0x9ff8, SHARED), 8)).isEqualTo(0x0707070707070707L);
        // Who does not own the source copies what it reads.
        memory.copyFrame(FRAME, 0x9000);
        assertThat(memory.read(0x9000, 8)).isZero();
        assertThat(memory.ownedWhollyBy(0x9000, 0)).isTrue();
        memory.write(0x9000, 8, SECRET);
        memory.copyFrame(0xa000, 0x9000); // an untouched frame is zero
        assertThat(memory.read(0x9000, 8)).isZero();
    }

    @Test void aLineOfAFrameWithSeveralOwnersIsReadAndWrittenByItsOwner() {
        keepSecret();
        assertThat(memory.ownedWhollyBy(FRAME, PRIVATE)).isFalse();
        memory.write(PhysicalMemory.hpa(FRAME + 8, PRIVATE), 4, 0x55);
        assertThat(memory.read(PhysicalMemory.hpa(FRAME + 4, PRIVATE), 8)).isEqualTo((0x55L << 32) | (SECRET >>> 32));
        assertThat(memory.ownerOfLine(FRAME + 64)).isZero();
        assertThatThrownBy(() -> memory.read(PhysicalMemory.hpa(FRAME + 60, PRIVATE), 8)).isInstanceOf(Poison.class);
        byte[] lines = new byte[128];
        memory.read(FRAME, lines, 0, lines.length);
        assertThat(lines).containsOnly(0);
    }

    @Test void listenersHearWhenAFrameChangesHands() {
        List<Long> heard = new ArrayList<>();
        memory.addOwnerListener(heard::add);
        memory.write(FRAME, 8, SECRET);
        assertThat(heard).isEmpty();
        memory.fill(PhysicalMemory.hpa(FRAME, PRIVATE), 4096, (byte) 0);
        assertThat(heard).containsOnly(FRAME >> 12).isNotEmpty();
        assertThat(memory.ownedWhollyBy(FRAME, PRIVATE)).isTrue();
    }

    @Test void aPartialWriteByAPrivateKeyReadsTheLineFirst() {
        assertThatThrownBy(() -> memory.write(PhysicalMemory.hpa(FRAME, PRIVATE), 8, SECRET)).isInstanceOf(Poison.class);
    }

    /// One private line, written as a private key must begin: as a whole.
    private void keepSecret() {
        memory.movdir64b(PhysicalMemory.hpa(FRAME, PRIVATE), new byte[64], 0);
        memory.write(PhysicalMemory.hpa(FRAME, PRIVATE), 8, SECRET);
    }

    @Test void nobodyAnswersBehindTheEnd() {
        long hole = PhysicalMemory.hpa(1 << 20, PRIVATE);
        memory.write(hole, 8, SECRET);
        memory.fill(hole, 4096, (byte) 0);
        memory.write(hole, new byte[16], 0, 16);
        assertThat(memory.read(hole, 8)).isEqualTo(-1L);
        assertThat(memory.read(hole, 2)).isEqualTo(0xffff);
        var bytes = new byte[4];
        memory.read(hole, bytes, 0, 4);
        assertThat(bytes).containsOnly(-1);
    }

    @Test void memoryEndsWhereItEnds() {
        assertThat(memory.contains((1 << 20) - 8, 8)).isTrue();
        assertThat(memory.contains((1 << 20) - 7, 8)).isFalse();
        assertThat(memory.contains(-1, 1)).isFalse();
        assertThatThrownBy(() -> new PhysicalMemory(4095, 32)).isInstanceOf(IllegalArgumentException.class);
    }
}
