package cloister.kvm.host;

import cloister.sim.HostThread;
import cloister.sim.Scheduler;
import java.util.ArrayDeque;

/// A shared/exclusive lock between host threads; who cannot have it parks. Not recursive for writers.
///
/// Needed although one host thread runs at a time: a holder may lose the baton at a switch point.
public final class SleepingLock {
    private final Scheduler scheduler;
    private final ArrayDeque<HostThread> waiters = new ArrayDeque<>();
    private int readers;
    private boolean writer;

    /// A free lock between host threads of `scheduler`.
    public SleepingLock(Scheduler scheduler) {
        this.scheduler = scheduler;
    }

    /// Acquires shared.
    public void lockShared() {
        while (writer) {
            sleep();
        }
        readers++;
    }

    /// Releases shared.
    public void unlockShared() {
        readers--;
        wake();
    }

    /// Acquires exclusive.
    public void lockExclusive() {
        while (writer || readers != 0) {
            sleep();
        }
        writer = true;
    }

    /// Releases exclusive.
    public void unlockExclusive() {
        writer = false;
        wake();
    }

    /// Whether somebody holds it exclusively.
    public boolean heldExclusive() {
        return writer;
    }

    private void sleep() {
        var self = scheduler.current();
        if (self == null) {
            throw new IllegalStateException("lock is held and nobody can release it");
        }
        waiters.add(self);
        scheduler.park();
    }

    private void wake() {
        for (var waiter = waiters.poll(); waiter != null; waiter = waiters.poll()) {
            scheduler.unpark(waiter);
        }
    }
}
