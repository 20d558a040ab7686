package cloister.kvm.host;

import cloister.sim.HostThread;
import cloister.sim.SwitchPoint;
import java.util.ArrayDeque;
import java.util.List;

/// A lock that many hold shared or one exclusively, first come, first served: a reader waits behind a writer that waits. [LINUX
/// kernel/locking/qrwlock.c]
public final class RwLock extends HostLock {
    private final ArrayDeque<Waiter> queue = new ArrayDeque<>();
    private final Held shared = this::unlockShared;
    private final Held exclusive = this::unlockExclusive;
    private int readers;
    private boolean writer;

    /// A free lock.
    ///
    /// @param owner whose lock it is, for messages; empty when there is one only
    public RwLock(Lockdep lockdep, LockClass lockClass, String owner) {
        super(lockdep, lockClass, owner);
    }

    /// Acquires shared. [LINUX read_lock]
    ///
    /// @throws LockOrderViolation when the order of locks forbids it, which is also so when the caller holds it already
    public Held lockShared() {
        lockdep.beforeAcquire(this, 0, false, false);
        scheduler.switchPoint(SwitchPoint.LOCK, this, 0);
        if (writer || !queue.isEmpty()) {
            sleep(true);
        } else {
            readers++;
        }
        lockdep.acquired(this, 0, true);
        return shared;
    }

    /// Releases shared. [LINUX read_unlock]
    public void unlockShared() {
        lockdep.released(this, true);
        readers--;
        handOver();
        scheduler.switchPoint(SwitchPoint.UNLOCK, this, 0);
    }

    /// Acquires exclusively. [LINUX write_lock]
    ///
    /// @throws LockOrderViolation when the order of locks forbids it
    public Held lockExclusive() {
        lockdep.beforeAcquire(this, 0, false, false);
        scheduler.switchPoint(SwitchPoint.LOCK, this, 0);
        if (writer || readers != 0 || !queue.isEmpty()) {
            sleep(false);
        } else {
            writer = true;
        }
        lockdep.acquired(this, 0, false);
        return exclusive;
    }

    /// Releases exclusively. [LINUX write_unlock]
    public void unlockExclusive() {
        lockdep.released(this, false);
        writer = false;
        handOver();
        scheduler.switchPoint(SwitchPoint.UNLOCK, this, 0);
    }

    /// Releases and acquires again when somebody waits, so that long work under the lock lets others in. [LINUX
    /// cond_resched_rwlock_write]
    ///
    /// @return whether the lock was released meanwhile
    public boolean relaxExclusive() {
        if (queue.isEmpty()) {
            return false;
        }
        unlockExclusive();
        lockExclusive();
        return true;
    }

    /// Likewise for a shared holder: lets a writer in that waits. [LINUX cond_resched_rwlock_read]
    ///
    /// @return whether the lock was released meanwhile
    public boolean relaxShared() {
        if (queue.isEmpty()) {
            return false;
        }
        unlockShared();
        lockShared();
        return true;
    }

    private void sleep(boolean asReader) {
        var waiter = new Waiter(currentOrFail(), asReader);
        queue.add(waiter);
        sleepUntil(waiter);
    }

    private void handOver() {
        if (writer || queue.isEmpty()) {
            return;
        }
        if (!queue.peek().shared) {
            if (readers == 0) {
                writer = true;
                grant();
            }
            return;
        }
        while (!queue.isEmpty() && queue.peek().shared) {
            readers++;
            grant();
        }
    }

    private void grant() {
        var next = queue.poll();
        next.granted = true;
        scheduler.unpark(next.thread);
    }

    /// Whether somebody waits for it. [LINUX rwlock_needbreak]
    public boolean isContended() {
        return !queue.isEmpty();
    }

    @Override public List<HostThread> waiters() {
        return queue.stream().map(waiter -> waiter.thread).toList();
    }
}
