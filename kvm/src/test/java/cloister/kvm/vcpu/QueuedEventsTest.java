package cloister.kvm.vcpu;

import static org.assertj.core.api.Assertions.assertThat;

import cloister.spec.x86.ExceptionVector;
import java.util.Set;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/// Exceptions that meet an exception. [SDM Vol. 3 "Conditions for Generating a Double Fault"]
final class QueuedEventsTest {
    private static final Set<Integer> CONTRIBUTORY = Set.of(ExceptionVector.DE, ExceptionVector.TS, ExceptionVector.NP, ExceptionVector.SS,
            ExceptionVector.GP);

    private static boolean makesADoubleFault(int first, int second) {
        if (CONTRIBUTORY.contains(first)) {
            return CONTRIBUTORY.contains(second);
        }
        return first == ExceptionVector.PF && (second == ExceptionVector.PF || CONTRIBUTORY.contains(second));
    }

    /// Every pair of exceptions, the first waiting or being delivered.
    @ParameterizedTest
    @ValueSource(booleans = {false, true})
    void twoExceptionsAreOneOrADoubleOrATripleFault(boolean injected) {
        for (int first = 0; first < 32; first++) {
            for (int second = 0; second < 32; second++) {
                var events = new QueuedEvents();
                if (injected) {
                    events.requeueException(first, false, 0);
                } else {
                    assertThat(events.raise(first, false, 0, false, 0)).isTrue();
                }
                boolean deliverable = events.raise(second, true, 0x18, false, 0);
                assertThat(deliverable).as("%d, then %d", first, second).isEqualTo(first != ExceptionVector.DF);
                if (deliverable) {
                    boolean isDouble = makesADoubleFault(first, second);
                    assertThat(events.vector).as("%d, then %d", first, second).isEqualTo(isDouble ? ExceptionVector.DF : second);
                    assertThat(events.errorCode).isEqualTo(isDouble ? 0 : 0x18);
                    assertThat(events.hasErrorCode).isTrue();
                    assertThat(events.exceptionPending).isTrue();
                    assertThat(events.exceptionInjected).isFalse();
                }
            }
        }
    }

    @Test void twoNmisWaitWhenNoneIsHandledElseOne() {
        var events = new QueuedEvents();
        events.nmiQueued = 5;
        events.takeNmis(false);
        assertThat(events.nmiPending).isEqualTo(2);
        events.nmiQueued = 1;
        events.takeNmis(true);
        assertThat(events.nmiPending).isEqualTo(1);
        events.nmiQueued = 3;
        events.nmiInjected = true;
        events.takeNmis(false);
        assertThat(events.nmiPending).as("the one that is delivered is not the one that waits").isEqualTo(1);
        assertThat(events.nmiQueued).isZero();
    }
}
