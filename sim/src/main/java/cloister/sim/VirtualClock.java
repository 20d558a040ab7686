package cloister.sim;

import java.util.List;
import java.util.PriorityQueue;

/// The platform's only time. One tick is one TSC tick of the logical processors; the frequency is fixed at creation.
///
/// Time moves forward for two reasons only: a logical processor retired instructions ([#advance]), or every
/// host thread waits and time skips to the next deadline ([#skipToNextDeadline]). Wall time never enters.
///
/// Not thread-safe: used by the host thread that holds the [Scheduler]'s baton.
public final class VirtualClock implements Persistent {
    private static final long NANOS_PER_SECOND = 1_000_000_000L;

    private final long ticksPerSecond;
    private final PriorityQueue<ArmedTimer<?>> timers = new PriorityQueue<>();
    private long now;
    private long sequence;

    /// @param ticksPerSecond the TSC frequency in Hz, at least 1
    public VirtualClock(long ticksPerSecond) {
        if (ticksPerSecond < 1) {
            throw new IllegalArgumentException("TSC frequency must be positive: " + ticksPerSecond);
        }
        this.ticksPerSecond = ticksPerSecond;
    }

    @Override public String stateName() {
        return "clock";
    }

    /// The time, and each armed timer by its place in the order of firing: deadline, owner, kind.
    @Override public void describe(StateSink out) {
        out.field("now", now);
        var armed = armed();
        for (int i = 0; i < armed.size(); i++) {
            var timer = armed.get(i);
            String owner = timer.owner() instanceof Persistent named ? named.stateName() : timer.owner().getClass().getSimpleName();
            out.field("timer " + i + " of " + owner + " " + timer.kind(), timer.deadline());
        }
    }

    /// The current time in ticks since power-on.
    public long now() {
        return now;
    }

    /// The frequency in Hz.
    public long ticksPerSecond() {
        return ticksPerSecond;
    }

    /// Nanoseconds since power-on.
    public long nanos() {
        return nanosOfTicks(now);
    }

    /// Converts a duration in ticks to nanoseconds, rounding down.
    public long nanosOfTicks(long ticks) {
        return Ratio.floor(ticks, NANOS_PER_SECOND, ticksPerSecond);
    }

    /// Converts a duration in nanoseconds to ticks, rounding up.
    public long ticksOfNanos(long nanos) {
        return Ratio.ceil(nanos, ticksPerSecond, NANOS_PER_SECOND);
    }

    /// Moves time forward by `ticks` and fires every timer that became due, in order of deadline.
    public void advance(long ticks) {
        now += ticks;
        fireDue();
    }

    /// Arms a timer. A deadline in the past fires at the next advance.
    ///
    /// @param deadline absolute time in ticks
    /// @param owner    is told when it fires
    /// @param kind     which of the owner's timers this is
    public <K extends Enum<K>> Timer schedule(long deadline, TimerOwner<K> owner, K kind) {
        var timer = new ArmedTimer<>(deadline, sequence++, owner, kind);
        timers.add(timer);
        return timer;
    }

    /// The earliest armed deadline in ticks, or [Long#MAX_VALUE] when no timer is armed.
    public long nextDeadline() {
        dropCancelled();
        var first = timers.peek();
        return first == null ? Long.MAX_VALUE : first.deadline;
    }

    /// Skips to the next deadline and fires it.
    ///
    /// @return false when no timer is armed
    public boolean skipToNextDeadline() {
        long next = nextDeadline();
        if (next == Long.MAX_VALUE) {
            return false;
        }
        now = Math.max(now, next);
        fireDue();
        return true;
    }

    /// The armed timers in the order in which they will fire.
    public List<Timer> armed() {
        return timers.stream().filter(timer -> !timer.done).sorted().map(timer -> (Timer) timer).toList();
    }

    private void fireDue() {
        while (true) {
            dropCancelled();
            var first = timers.peek();
            if (first == null || first.deadline > now) {
                return;
            }
            timers.remove();
            first.fire();
        }
    }

    private void dropCancelled() {
        while (!timers.isEmpty() && timers.peek().done) {
            timers.remove();
        }
    }

    /// An armed timer; fires once unless cancelled before.
    public sealed interface Timer permits ArmedTimer {
        /// Absolute time in ticks.
        long deadline();

        /// Who is told.
        TimerOwner<?> owner();

        /// Which of the owner's timers it is.
        Enum<?> kind();

        /// Keeps the timer from firing; without effect once it has fired.
        void cancel();
    }

    private static final class ArmedTimer<K extends Enum<K>> implements Timer, Comparable<ArmedTimer<?>> {
        private final long deadline;
        private final long sequence;
        private final TimerOwner<K> owner;
        private final K kind;
        private boolean done;

        private ArmedTimer(long deadline, long sequence, TimerOwner<K> owner, K kind) {
            this.deadline = deadline;
            this.sequence = sequence;
            this.owner = owner;
            this.kind = kind;
        }

        @Override public long deadline() {
            return deadline;
        }

        @Override public TimerOwner<?> owner() {
            return owner;
        }

        @Override public Enum<?> kind() {
            return kind;
        }

        @Override public void cancel() {
            done = true;
        }

        private void fire() {
            done = true;
            owner.timerFired(kind);
        }

        @Override public int compareTo(ArmedTimer<?> other) {
            int byDeadline = Long.compare(deadline, other.deadline);
            return byDeadline != 0 ? byDeadline : Long.compare(sequence, other.sequence);
        }
    }
}
