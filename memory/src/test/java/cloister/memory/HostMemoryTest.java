package cloister.memory;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import cloister.sim.RoundRobin;
import cloister.sim.Scheduler;
import cloister.sim.SwitchPoint;
import cloister.sim.VirtualClock;
import java.util.List;
import org.assertj.core.api.ThrowableAssert.ThrowingCallable;
import org.junit.jupiter.api.Test;

/// What host software can do with memory, and what it cannot.
class HostMemoryTest {
    private static final int FIRST_PRIVATE = 32;
    private static final long PA = 0x4000;

    private final PhysicalMemory memory = new PhysicalMemory(1 << 20, FIRST_PRIVATE);
    private final HostMemory host = new HostMemory(memory);
    private final AtomicWords atomics = host.atomics(
            new Scheduler(new VirtualClock(1_000_000), new RoundRobin(), Scheduler.IdlePace.SKIP), SwitchPoint.SPTE_CHANGE);

    private List<ThrowingCallable> uses(long hpa) {
        return List.of(() -> host.read(hpa, 8), () -> host.write(hpa, 8, 7), () -> host.read(hpa, new byte[8], 0, 8),
                () -> host.write(hpa, new byte[8], 0, 8), () -> host.fill(hpa, 64, (byte) 1), () -> host.atomics().read(hpa, 8),
                () -> host.atomics().fetchOr(hpa, 8, 1), () -> host.atomics().compareAndSet(hpa, 8, 0, 1),
                () -> host.atomics().exchange(hpa, 8, 1), () -> host.atomics().fetchAnd(hpa, 8, 0),
                () -> host.atomics().fetchAdd(hpa, 8, 1), () -> host.atomics().set(hpa, 8, 1), () -> atomics.set(hpa, 8, 1));
    }

    @Test void addressesWithAPrivateKeyIdCannotBeUsed() {
        memory.fill(PhysicalMemory.hpa(PA, FIRST_PRIVATE), PhysicalMemory.LINE_SIZE, (byte) 0);
        memory.write(PhysicalMemory.hpa(PA, FIRST_PRIVATE), 8, 0x1234);
        for (long hpa : new long[] {PhysicalMemory.hpa(PA, FIRST_PRIVATE), PhysicalMemory.hpa(PA, 63), (-1L << 52) | PA}) {
            assertThat(uses(hpa)).allSatisfy(use -> assertThatThrownBy(use).isInstanceOf(IllegalArgumentException.class));
        }
        assertThat(memory.read(PhysicalMemory.hpa(PA, FIRST_PRIVATE), 8)).isEqualTo(0x1234);
        assertThat(host.read(PA, 8)).isZero();
    }

    @Test void addressesWithAKeyIdOfTheHostsCan() {
        for (var use : uses(PhysicalMemory.hpa(PA, FIRST_PRIVATE - 1))) {
            try {
                use.call();
            } catch (Throwable t) {
                throw new AssertionError(t);
            }
        }
        assertThat(memory.ownerOfLine(PA)).isEqualTo(FIRST_PRIVATE - 1);
        assertThat(host.size()).isEqualTo(memory.size());
    }
}
