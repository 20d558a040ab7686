package cloister.sim;

import static org.assertj.core.api.Assertions.assertThat;

import java.math.BigInteger;
import java.util.ArrayList;
import java.util.List;
import org.junit.jupiter.api.Test;

class VirtualClockTest {
    private enum Kind { ONLY }

    private final VirtualClock clock = new VirtualClock(1_000_000_000);
    private final ArrayList<String> fired = new ArrayList<>();

    @Test void timersFireInOrderOfDeadlineThenOfArming() {
        clock.schedule(20, _ -> fired.add("b"), Kind.ONLY);
        clock.schedule(10, _ -> fired.add("a"), Kind.ONLY);
        clock.schedule(20, _ -> fired.add("c"), Kind.ONLY);
        clock.advance(19);
        assertThat(fired).containsExactly("a");
        clock.advance(1);
        assertThat(fired).containsExactly("a", "b", "c");
    }

    @Test void aCancelledTimerNeitherFiresNorHoldsTimeBack() {
        clock.schedule(10, _ -> fired.add("a"), Kind.ONLY).cancel();
        clock.schedule(30, _ -> fired.add("b"), Kind.ONLY);
        assertThat(clock.nextDeadline()).isEqualTo(30);
        assertThat(clock.skipToNextDeadline()).isTrue();
        assertThat(clock.now()).isEqualTo(30);
        assertThat(fired).containsExactly("b");
        assertThat(clock.skipToNextDeadline()).isFalse();
    }

    private enum Part { FIRST, SECOND }

    @Test void armedTimersAreListedByOwnerAndKind() {
        TimerOwner<Part> owner = part -> fired.add(part.name());
        clock.schedule(20, owner, Part.SECOND);
        clock.schedule(10, owner, Part.FIRST);
        clock.schedule(5, owner, Part.FIRST).cancel();
        assertThat(clock.armed()).extracting(VirtualClock.Timer::deadline).containsExactly(10L, 20L);
        assertThat(clock.armed()).extracting(VirtualClock.Timer::kind).isEqualTo(List.of(Part.FIRST, Part.SECOND));
        assertThat(clock.armed()).allSatisfy(timer -> assertThat(timer.owner()).isSameAs(owner));
        clock.advance(10);
        assertThat(fired).containsExactly("FIRST");
        assertThat(clock.armed()).hasSize(1);
    }

    /// Against arithmetic without limits.
    @Test void ratiosAreExact() {
        var random = new Entropy(11);
        for (int i = 0; i < 200_000; i++) {
            long a = random.nextLong() >>> (1 + random.nextInt(63));
            long b = random.nextLong() >>> (1 + random.nextInt(63));
            long c = Math.max(1, random.nextLong() >>> (1 + random.nextInt(63)));
            var product = BigInteger.valueOf(a).multiply(BigInteger.valueOf(b));
            var floor = product.divide(BigInteger.valueOf(c)).min(BigInteger.valueOf(Ratio.MAX));
            var ceil = product.add(BigInteger.valueOf(c - 1)).divide(BigInteger.valueOf(c)).min(BigInteger.valueOf(Ratio.MAX));
            assertThat(Ratio.floor(a, b, c)).as("%d * %d / %d", a, b, c).isEqualTo(floor.longValueExact());
            assertThat(Ratio.ceil(a, b, c)).as("%d * %d / %d up", a, b, c).isEqualTo(ceil.longValueExact());
        }
    }

    /// In floating point this was a tick short after some days.
    @Test void nanosecondsStayExactForYears() {
        var slow = new VirtualClock(999_999_999);
        slow.advance(999_999_999L * 86_400 * 365 * 20 + 1);
        assertThat(slow.nanos()).isEqualTo(1_000_000_000L * 86_400 * 365 * 20 + 1);
        assertThat(slow.ticksOfNanos(1_000_000_000L * 86_400 * 365 * 20 + 1)).isEqualTo(999_999_999L * 86_400 * 365 * 20 + 1);
    }
}
