package cloister.sim;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import java.util.ArrayList;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;

@Timeout(20)
class SchedulerTest {
    private final VirtualClock clock = new VirtualClock(1_000_000_000);
    private final Scheduler scheduler = new Scheduler(clock, new RoundRobin(), Scheduler.IdlePace.SKIP);
    private final List<String> seen = new ArrayList<>();

    @Test void slicesAlternateAndOtherPointsDoNot() {
        for (String name : new String[] {"a", "b"}) {
            scheduler.spawn(name, () -> {
                for (int i = 0; i < 3; i++) {
                    seen.add(name + i);
                    scheduler.switchPoint(SwitchPoint.TRY_LOCK);
                    scheduler.switchPoint(SwitchPoint.GUEST_SLICE);
                }
            });
        }
        scheduler.run();
        assertThat(seen).containsExactly("a0", "b0", "a1", "b1", "a2", "b2");
        assertThat(scheduler.stalled()).isFalse();
    }

    @Test void timeSkipsWhenAllWait() {
        var waiter = new HostThread[1];
        waiter[0] = scheduler.spawn("a", () -> {
            clock.schedule(5_000, () -> scheduler.unpark(waiter[0]));
            scheduler.park();
            seen.add("woken at " + clock.now());
        });
        scheduler.run();
        assertThat(seen).containsExactly("woken at 5000");
    }

    @Test void aWakeUpBeforeTheWaitIsNotLost() {
        scheduler.spawn("a", () -> {
            scheduler.unpark(scheduler.current());
            scheduler.park();
            seen.add("on");
        });
        scheduler.run();
        assertThat(seen).containsExactly("on");
    }

    @Test void waitingForNothingIsAStall() {
        scheduler.spawn("a", scheduler::park);
        scheduler.run();
        assertThat(scheduler.stalled()).isTrue();
    }

    @Test void theOutsideCanWakeAParkedPlatform() {
        scheduler.expectOutside(true);
        var waiter = scheduler.spawn("a", () -> {
            scheduler.park();
            seen.add("woken");
        });
        Thread.ofVirtual().start(() -> scheduler.post(() -> scheduler.unpark(waiter)));
        scheduler.run();
        assertThat(seen).containsExactly("woken");
    }

    @Test void aFailureEndsTheRun() {
        scheduler.spawn("a", () -> {
            throw new IllegalStateException("broken");
        });
        scheduler.spawn("b", scheduler::park);
        assertThatThrownBy(scheduler::run).hasMessage("broken");
    }

    @Test void entropyStreamsDependOnSeedAndNameOnly() {
        var one = new Entropy(7);
        var other = new Entropy(7);
        other.nextLong();
        assertThat(one.stream("rdrand").nextLong()).isEqualTo(new Entropy(7).stream("rdrand").nextLong())
                .isNotEqualTo(one.stream("keys").nextLong()).isNotEqualTo(new Entropy(8).stream("rdrand").nextLong());
    }
}
