package cloister.sim;

import static org.assertj.core.api.Assertions.assertThat;

import java.util.ArrayList;
import org.junit.jupiter.api.Test;

class VirtualClockTest {
    private final VirtualClock clock = new VirtualClock(1_000_000_000);
    private final ArrayList<String> fired = new ArrayList<>();

    @Test void timersFireInOrderOfDeadlineThenOfArming() {
        clock.schedule(20, () -> fired.add("b"));
        clock.schedule(10, () -> fired.add("a"));
        clock.schedule(20, () -> fired.add("c"));
        clock.advance(19);
        assertThat(fired).containsExactly("a");
        clock.advance(1);
        assertThat(fired).containsExactly("a", "b", "c");
    }

    @Test void aCancelledTimerNeitherFiresNorHoldsTimeBack() {
        clock.schedule(10, () -> fired.add("a")).cancel();
        clock.schedule(30, () -> fired.add("b"));
        assertThat(clock.nextDeadline()).isEqualTo(30);
        assertThat(clock.skipToNextDeadline()).isTrue();
        assertThat(clock.now()).isEqualTo(30);
        assertThat(fired).containsExactly("b");
        assertThat(clock.skipToNextDeadline()).isFalse();
    }
}
