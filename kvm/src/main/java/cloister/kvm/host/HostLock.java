package cloister.kvm.host;

import cloister.sim.HostThread;
import cloister.sim.Scheduler;
import cloister.sim.SwitchPoint;
import java.util.List;

/// What the locks of the host kernel have in common: a class, a name, switch points that are about the lock, an order that
/// [Lockdep] checks. Needed although one host thread runs at a time, because a holder can lose the baton at any switch point.
///
/// A lock is handed over on release to whoever waited first, so that every schedule makes progress.
public abstract sealed class HostLock permits Mutex, RwLock, Srcu {
    final Lockdep lockdep;
    final Scheduler scheduler;
    final LockClass lockClass;
    private final String name;

    HostLock(Lockdep lockdep, LockClass lockClass, String owner) {
        this.lockdep = lockdep;
        this.scheduler = lockdep.scheduler();
        this.lockClass = lockClass;
        this.name = owner.isEmpty() ? lockClass.name() : lockClass.name() + " of " + owner;
    }

    /// The class, and whose lock it is.
    public final String name() {
        return name;
    }

    /// The host threads that hold it, in any mode; a holder outside of every host thread is not listed.
    public final List<HostThread> holders() {
        return lockdep.holders(this);
    }

    /// The host threads that wait for it, in the order in which they will have it.
    public abstract List<HostThread> waiters();

    /// Parks until the holder has handed the lock over. The caller has put the current host thread into the queue.
    final void sleepUntil(Waiter waiter) {
        scheduler.switchPoint(SwitchPoint.LOCK_WAIT, this, 0);
        lockdep.waiting(this);
        while (!waiter.granted) {
            scheduler.park();
        }
        lockdep.waiting(null);
    }

    final HostThread currentOrFail() {
        var self = scheduler.current();
        if (self == null) {
            throw new IllegalStateException(name + " is held, and nobody runs who could release it");
        }
        return self;
    }

    /// A host thread in the queue of a lock.
    static final class Waiter {
        final HostThread thread;
        final boolean shared;
        boolean granted;

        Waiter(HostThread thread, boolean shared) {
            this.thread = thread;
            this.shared = shared;
        }
    }

    @Override public final String toString() {
        return name;
    }
}
