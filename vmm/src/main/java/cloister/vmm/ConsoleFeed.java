package cloister.vmm;

import cloister.devices.ByteSink;
import cloister.devices.ByteSource;
import cloister.sim.Persistent;
import cloister.sim.StateSink;
import cloister.sim.TimerOwner;
import cloister.sim.VirtualClock;
import java.util.function.LongConsumer;

/// Feeds the console of the guest, and ends it as a user does: when there is no more input, Ctrl-D is typed, on a line of its
/// own. Whoever reads the console then may take that as the end of its own input and leave the console to the next program,
/// so Ctrl-D is typed again, after twice the time each. A guest that has not said a word for a long time of these is idle for ever: its
/// kernel's timers may go on, but nothing new can come from anywhere.
final class ConsoleFeed implements ByteSource, Persistent, TimerOwner<ConsoleFeed.TimerKind> {
    /// Its only timer.
    enum TimerKind {
        /// Ctrl-D is due again.
        END_AGAIN
    }

    private static final int END_OF_TRANSMISSION = 4;
    /// After 2^13 seconds, 2.3 hours of the guest's time, without a word since the last of these the run ends.
    private static final int ENDS = 14;

    private final GuestInput input;
    private final ByteSink output;
    private final VirtualClock clock;
    private final Runnable ready;
    private final LongConsumer idleForEver;
    private int last = '\n';
    private int ends;
    private long seconds;
    private boolean due = true;
    private boolean spoke;

    /// @param output      where what the guest says goes on to
    /// @param ready       called when there is something to read again
    /// @param idleForEver called with seconds when the guest has been silent for so long, long after its input ended
    ConsoleFeed(GuestInput input, ByteSink output, VirtualClock clock, Runnable ready, LongConsumer idleForEver) {
        this.input = input;
        this.output = output;
        this.clock = clock;
        this.ready = ready;
        this.idleForEver = idleForEver;
    }

    /// Notices what the guest says.
    void said(int octet) {
        spoke = true;
        output.accept(octet);
    }

    @Override public int next() {
        int octet = input.next();
        if (octet == NONE && input.ended() && due) {
            octet = last == '\n' ? END_OF_TRANSMISSION : '\n';
            if (octet == END_OF_TRANSMISSION) {
                ended();
                return octet;
            }
        }
        last = octet == NONE ? last : octet;
        return octet;
    }

    private void ended() {
        due = false;
        spoke = false;
        seconds = 1L << Math.min(ends++, ENDS - 1);
        clock.schedule(clock.now() + seconds * clock.ticksPerSecond(), this, TimerKind.END_AGAIN);
    }

    @Override public void timerFired(TimerKind kind) {
        if (ends >= ENDS && !spoke) {
            idleForEver.accept(seconds);
            return;
        }
        due = true;
        ready.run();
    }

    @Override public String stateName() {
        return "consoleFeed";
    }

    @Override public void describe(StateSink out) {
        out.field("last", last);
        out.field("ends", ends);
        out.field("seconds", seconds);
        out.flag("due", due);
        out.flag("spoke", spoke);
    }
}
