package cloister.kvm.host;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import cloister.kvm.KvmException;
import cloister.memory.HostMemory;
import cloister.memory.PhysicalMemory;
import java.util.ArrayList;
import java.util.Collections;
import java.util.HashSet;
import java.util.List;
import java.util.Random;
import java.util.Set;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;

final class FrameAllocatorTest {
    private static final long MIB = 1L << 20;
    private static final long FRAME = PhysicalMemory.FRAME_SIZE;
    private static final long BLOCK = FrameAllocator.BLOCK_SIZE;
    private final PhysicalMemory memory = new PhysicalMemory(16 * MIB, 32);
    private final FrameAllocator frames = new FrameAllocator(new HostMemory(memory), MIB, 16 * MIB);

    @AfterEach void close() {
        memory.close();
    }

    private List<Long> all() {
        List<Long> got = new ArrayList<>();
        while (true) {
            try {
                got.add(frames.allocate());
            } catch (KvmException e) {
                return got;
            }
        }
    }

    @Test void framesGivenBackSinglyAndInAnyOrderAreBlocksAgain() {
        List<Long> got = all();
        assertThat(got).hasSize((int) (15 * MIB / FRAME)).doesNotHaveDuplicates();
        assertThat(frames.allocateBlock()).isEqualTo(-1);
        Collections.shuffle(got, new Random(1));
        got.forEach(frames::free);
        assertThat(frames.allocatedFrames()).isZero();
        Set<Long> blocks = new HashSet<>();
        for (int i = 0; i < 7; i++) { // the eighth is not whole
            blocks.add(frames.allocateBlock());
        }
        assertThat(blocks).hasSize(7).allMatch(pa -> pa >= BLOCK && pa % BLOCK == 0 && pa + BLOCK <= 16 * MIB);
        assertThat(frames.allocateBlock()).isEqualTo(-1);
        assertThat(all()).hasSize((int) (MIB / FRAME)).allMatch(pa -> pa >= MIB && pa < BLOCK);
    }

    @Test void whatIsHandedOutIsZeroAndNobodyElses() {
        Random random = new Random(2);
        List<Long> singles = new ArrayList<>();
        List<Long> blocks = new ArrayList<>();
        Set<Long> owned = new HashSet<>();
        for (int step = 0; step < 20_000; step++) {
            int kind = random.nextInt(100);
            if (kind < 54 && owned.size() < 3_000) {
                long pa = frames.allocate();
                own(owned, pa, 1);
                singles.add(pa);
            } else if (kind < 98 && !singles.isEmpty()) {
                long pa = singles.remove(random.nextInt(singles.size()));
                owned.remove(pa);
                frames.free(pa);
            } else if (kind == 98 && owned.size() < 3_000) {
                long pa = frames.allocateBlock();
                if (pa >= 0) {
                    own(owned, pa, (int) (BLOCK / FRAME));
                    blocks.add(pa);
                }
            } else if (kind == 99 && !blocks.isEmpty()) {
                long pa = blocks.removeLast();
                for (long frame = pa; frame < pa + BLOCK; frame += FRAME) {
                    owned.remove(frame);
                }
                frames.freeBlock(pa);
            }
            assertThat(frames.allocatedFrames()).isEqualTo(owned.size());
        }
        assertThat(blocks).isNotEmpty();
    }

    private void own(Set<Long> owned, long pa, int count) {
        for (int i = 0; i < count; i++) {
            long frame = pa + (i * FRAME);
            assertThat(owned.add(frame)).as("frame %#x", frame).isTrue();
            assertThat(memory.read(frame + 8, 8)).isZero();
            memory.write(frame + 8, 8, -1);
        }
    }

    @Test void whatTheTdxModuleKeepsIsNeverHandedOut() {
        List<Long> got = all();
        frames.quarantine(got.getFirst());
        got.forEach(frames::free);
        assertThat(frames.allocatedFrames()).isOne();
        assertThat(all()).hasSize(got.size() - 1).doesNotContain(got.getFirst());
    }

    @Test void aFrameIsFreedOnce() {
        long pa = frames.allocate();
        frames.free(pa);
        assertThatThrownBy(() -> frames.free(pa)).isInstanceOf(IllegalStateException.class).hasMessageContaining("freed twice");
    }
}
