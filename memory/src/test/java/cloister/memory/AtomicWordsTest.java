package cloister.memory;

import static org.assertj.core.api.Assertions.assertThat;

import cloister.sim.RandomWalk;
import cloister.sim.RoundRobin;
import cloister.sim.Scheduler;
import cloister.sim.SwitchPoint;
import cloister.sim.VirtualClock;
import java.util.ArrayList;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

class AtomicWordsTest {
    private final PhysicalMemory memory = new PhysicalMemory(1 << 20, 32);
    private final AtomicWords words = new AtomicWords(memory);

    @AfterEach void close() {
        memory.close();
    }

    @ParameterizedTest @ValueSource(ints = {1, 2, 4, 8}) void operationsTouchOnlyTheirWord(int bytes) {
        long mask = -1L >>> (64 - (8 * bytes));
        memory.fill(0x1000, 64, (byte) 0x5a);
        long at = 0x1010;
        words.set(at, bytes, 0x10);
        assertThat(words.compareAndSet(at, bytes, 0x11, 0x20)).isFalse();
        assertThat(words.compareAndExchange(at, bytes, 0x11, 0x20)).isEqualTo(0x10);
        assertThat(words.compareAndSet(at, bytes, 0x10, -1)).isTrue();
        assertThat(words.read(at, bytes)).isEqualTo(mask);
        assertThat(words.compareAndSet(at, bytes, -1, 0x30)).as("the expected value counts as far as the word is wide").isTrue();
        assertThat(words.exchange(at, bytes, 0x41)).isEqualTo(0x30);
        assertThat(words.fetchOr(at, bytes, 0x0a)).isEqualTo(0x41);
        assertThat(words.fetchAnd(at, bytes, ~0x41)).isEqualTo(0x4b);
        assertThat(words.fetchAdd(at, bytes, -0x0b)).isEqualTo(0x0a);
        assertThat(words.read(at, bytes)).as("wraps round").isEqualTo(mask);
        var around = new byte[64];
        memory.read(0x1000, around, 0, 64);
        for (int i = 0; i < 64; i++) {
            boolean inside = i >= 0x10 && i < 0x10 + bytes;
            assertThat(around[i]).as("byte %d", i).isEqualTo((byte) (inside ? 0xff : 0x5a));
        }
    }

    @Test void theKeyIdOfTheAddressCounts() {
        long hpa = PhysicalMemory.hpa(0x2000, 40);
        memory.fill(hpa, 4096, (byte) 0);
        words.fetchOr(hpa, 8, 5);
        assertThat(memory.read(hpa, 8)).isEqualTo(5);
        assertThat(words.fetchOr(0x2000, 8, 2)).as("private memory reads zero through KeyID 0").isZero();
        assertThat(memory.ownerOfLine(0x2000)).isZero();
    }

    /// Counting up with compare-and-set loses nothing, and some tries fail: the point is before the operation, where others can act.
    @Test void othersActBeforeAnOperationAndNeverWithinIt() {
        int failures = 0;
        for (long seed = 0; seed < 20; seed++) {
            memory.write(0x3000, 4, 0);
            var scheduler = new Scheduler(new VirtualClock(1), new RandomWalk(seed, 2), Scheduler.IdlePace.SKIP);
            var contended = new AtomicWords(memory, scheduler, SwitchPoint.ATOMIC);
            int[] failed = {0};
            for (int t = 0; t < 3; t++) {
                scheduler.spawn("t" + t, () -> {
                    for (int i = 0; i < 10; i++) {
                        long old = contended.read(0x3000, 4);
                        while (!contended.compareAndSet(0x3000, 4, old, old + 1)) {
                            failed[0]++;
                            old = contended.read(0x3000, 4);
                        }
                        contended.fetchAdd(0x3000, 4, 1);
                    }
                });
            }
            scheduler.run();
            assertThat(memory.read(0x3000, 4)).as("seed %d", seed).isEqualTo(60);
            failures += failed[0];
        }
        assertThat(failures).isPositive();
    }

    @Test void thePointNamesMemoryAndAddress() {
        var seen = new ArrayList<String>();
        var scheduler = new Scheduler(new VirtualClock(1), new RoundRobin(), Scheduler.IdlePace.SKIP);
        scheduler.observer((thread, kind, owner, where) -> seen.add(kind + " " + (owner == memory) + " " + Long.toHexString(where)));
        var sptes = new AtomicWords(memory, scheduler, SwitchPoint.SPTE_CHANGE);
        sptes.exchange(PhysicalMemory.hpa(0x4008, 3), 8, 1);
        sptes.read(0x4008, 8);
        assertThat(seen).containsExactly("SPTE_CHANGE true 4008");
    }
}
