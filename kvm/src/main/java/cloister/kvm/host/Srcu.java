package cloister.kvm.host;

import cloister.sim.HostThread;
import cloister.sim.SwitchPoint;
import java.util.ArrayDeque;
import java.util.List;

/// Sleepable read-copy-update: readers never wait, and who has replaced what they read waits until every section that may have
/// seen the old has ended. [LINUX Documentation/RCU/whatisRCU.rst, kernel/rcu/srcutree.c]
///
/// A section counts for the index that was current when it began; [#synchronize] makes the other index current and waits for the
/// old one to drain, so that sections which begin later never keep it waiting.
public final class Srcu extends HostLock {
    private final ArrayDeque<Waiter> queue = new ArrayDeque<>();
    private final int[] sections = new int[2];
    private final Held[] held = {() -> readUnlock(0), () -> readUnlock(1)};
    private int index;
    private long gracePeriods;
    private boolean synchronizing;

    /// Without sections.
    ///
    /// @param owner whose it is, for messages; empty when there is one only
    public Srcu(Lockdep lockdep, LockClass lockClass, String owner) {
        super(lockdep, lockClass, owner);
    }

    /// Begins a read section; sections may nest and sleep. [LINUX srcu_read_lock]
    ///
    /// @return what ends it
    public Held read() {
        return held[readLock()];
    }

    /// Begins a read section that does not end in the same method.
    ///
    /// @return the index for [#readUnlock]
    public int readLock() {
        lockdep.beforeAcquire(this, 0, true, false);
        scheduler.switchPoint(SwitchPoint.LOCK, this, 0);
        int section = index;
        sections[section]++;
        lockdep.acquired(this, 0, true);
        return section;
    }

    /// Ends the section that [#readLock] began as `section`. [LINUX srcu_read_unlock]
    public void readUnlock(int section) {
        lockdep.released(this, true);
        sections[section]--;
        if (sections[section] == 0) {
            wakeAll();
        }
        scheduler.switchPoint(SwitchPoint.UNLOCK, this, 0);
    }

    /// Waits until every section has ended that began before. [LINUX synchronize_srcu]
    ///
    /// @throws LockOrderViolation within a section of its own, or when a section can wait for a lock that the caller holds
    public void synchronize() {
        lockdep.beforeAcquire(this, 0, false, false);
        scheduler.switchPoint(SwitchPoint.LOCK, this, 1);
        while (synchronizing) {
            await();
        }
        synchronizing = true;
        int old = index;
        index ^= 1;
        while (sections[old] != 0) {
            await();
        }
        gracePeriods++;
        synchronizing = false;
        wakeAll();
    }

    private void await() {
        var waiter = new Waiter(currentOrFail(), false);
        queue.add(waiter);
        sleepUntil(waiter);
    }

    private void wakeAll() {
        for (var waiter = queue.poll(); waiter != null; waiter = queue.poll()) {
            waiter.granted = true;
            scheduler.unpark(waiter.thread);
        }
    }

    /// Sections that are open.
    public int readers() {
        return sections[0] + sections[1];
    }

    /// Whether the caller is within a section. [LINUX srcu_read_lock_held]
    public boolean isHeldByMe() {
        return lockdep.isHeldByMe(this);
    }

    /// How many times [#synchronize] has returned.
    public long gracePeriods() {
        return gracePeriods;
    }

    @Override public List<HostThread> waiters() {
        return queue.stream().map(waiter -> waiter.thread).toList();
    }
}
