package cloister.kvm.host;

import cloister.sim.HostThread;
import cloister.sim.SwitchPoint;
import java.util.ArrayDeque;
import java.util.List;

/// An exclusive lock: a mutex, or a spinlock when its class spins. [LINUX Documentation/locking/mutex-design.rst]
public final class Mutex extends HostLock {
    private final ArrayDeque<Waiter> queue = new ArrayDeque<>();
    private final Held held = this::unlock;
    private boolean locked;

    /// A free lock.
    ///
    /// @param owner whose lock it is, for messages; empty when there is one only
    public Mutex(Lockdep lockdep, LockClass lockClass, String owner) {
        super(lockdep, lockClass, owner);
    }

    /// Acquires; parks while somebody else holds it.
    ///
    /// @throws LockOrderViolation when the order of locks forbids it
    public Held lock() {
        return lock(0);
    }

    /// Acquires as one of several locks of the class. [LINUX mutex_lock_nested]
    ///
    /// @param subclass 0 to [LockClass#SUBCLASSES] - 1
    public Held lock(int subclass) {
        lockdep.beforeAcquire(this, subclass, false, false);
        return acquire(subclass);
    }

    /// Acquires as one of any number of locks of the class, which are only ever taken together while `outer` is held. [LINUX
    /// mutex_lock_nest_lock]
    public Held lockUnder(Mutex outer) {
        if (!lockdep.isHeldByMe(outer)) {
            throw new LockOrderViolation(name() + " is taken under " + outer.name() + ", which is not held");
        }
        lockdep.beforeAcquire(this, 0, false, true);
        return acquire(0);
    }

    private Held acquire(int subclass) {
        scheduler.switchPoint(SwitchPoint.LOCK, this, 0);
        if (locked) {
            var waiter = new Waiter(currentOrFail(), false);
            queue.add(waiter);
            sleepUntil(waiter);
        }
        locked = true;
        lockdep.acquired(this, subclass, false);
        return held;
    }

    /// Acquires unless somebody holds it. [LINUX mutex_trylock]
    public boolean tryLock() {
        scheduler.switchPoint(SwitchPoint.LOCK, this, 0);
        if (locked) {
            return false;
        }
        locked = true;
        lockdep.acquired(this, 0, false);
        return true;
    }

    /// Releases, and hands over to whoever waited first.
    public void unlock() {
        lockdep.released(this, false);
        var next = queue.poll();
        if (next == null) {
            locked = false;
        } else {
            next.granted = true;
            scheduler.unpark(next.thread);
        }
        scheduler.switchPoint(SwitchPoint.UNLOCK, this, 0);
    }

    /// Whether anybody holds it. [LINUX mutex_is_locked]
    public boolean isLocked() {
        return locked;
    }

    /// Whether the caller holds it. [LINUX lockdep_is_held]
    public boolean isHeldByMe() {
        return lockdep.isHeldByMe(this);
    }

    @Override public List<HostThread> waiters() {
        return queue.stream().map(waiter -> waiter.thread).toList();
    }
}
