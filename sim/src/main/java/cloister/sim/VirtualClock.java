package cloister.sim;

import java.util.PriorityQueue;

/// The platform's only time. One tick is one TSC tick of the logical processors; the frequency is fixed at creation.
///
/// Time moves forward for two reasons only: a logical processor retired instructions ([#advance]), or every
/// host thread waits and time skips to the next deadline ([#skipToNextDeadline]). Wall time never enters.
///
/// Not thread-safe: used by the host thread that holds the [Scheduler]'s baton.
public final class VirtualClock {
    private final long ticksPerSecond;
    private final PriorityQueue<Timer> timers = new PriorityQueue<>();
    private long now;
    private long sequence;

    /// @param ticksPerSecond the TSC frequency in Hz, at least 1
    public VirtualClock(long ticksPerSecond) {
        if (ticksPerSecond < 1) {
            throw new IllegalArgumentException("TSC frequency must be positive: " + ticksPerSecond);
        }
        this.ticksPerSecond = ticksPerSecond;
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
        return Math.multiplyHigh(now, 1_000_000_000L) == 0 && now < Long.MAX_VALUE / 1_000_000_000L
                ? now * 1_000_000_000L / ticksPerSecond
                : (long) ((double) now * 1e9 / ticksPerSecond);
    }

    /// Converts a duration in nanoseconds to ticks, rounding up.
    public long ticksOfNanos(long nanos) {
        return (long) Math.ceil((double) nanos * ticksPerSecond / 1e9);
    }

    /// Moves time forward by `ticks` and fires every timer that became due, in order of deadline.
    public void advance(long ticks) {
        now += ticks;
        fireDue();
    }

    /// Arms a timer. A deadline in the past fires at the next advance.
    ///
    /// @param deadline absolute time in ticks
    /// @param action   runs on the host thread that advanced the clock; it must not switch host threads
    public Timer schedule(long deadline, Runnable action) {
        var timer = new Timer(deadline, sequence++, action);
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
        while (!timers.isEmpty() && timers.peek().cancelled) {
            timers.remove();
        }
    }

    /// An armed timer; fires once unless cancelled before.
    public static final class Timer implements Comparable<Timer> {
        private final long deadline;
        private final long sequence;
        private final Runnable action;
        private boolean cancelled;

        private Timer(long deadline, long sequence, Runnable action) {
            this.deadline = deadline;
            this.sequence = sequence;
            this.action = action;
        }

        /// Keeps the timer from firing; without effect once it has fired.
        public void cancel() {
            cancelled = true;
        }

        private void fire() {
            cancelled = true;
            action.run();
        }

        @Override public int compareTo(Timer other) {
            int byDeadline = Long.compare(deadline, other.deadline);
            return byDeadline != 0 ? byDeadline : Long.compare(sequence, other.sequence);
        }
    }
}
