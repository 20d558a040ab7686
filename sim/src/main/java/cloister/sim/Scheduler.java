package cloister.sim;

import java.util.ArrayList;
import java.util.Collections;
import java.util.Comparator;
import java.util.List;
import java.util.PriorityQueue;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.locks.LockSupport;

/// Decides which host thread runs. Exactly one holds the baton; it gives it up at explicit points only, so a run
/// depends on the strategy, the seed and the guest, and on nothing else.
///
/// When every host thread is parked, time skips to the next timer. When there is no timer either, the
/// scheduler waits for the outside world ([#post]); if nothing from outside can come, the run ends as
/// [#stalled].
public final class Scheduler {
    private final VirtualClock clock;
    private final SchedulingStrategy strategy;
    private final boolean explores;
    private final List<HostThread> threads = new ArrayList<>();
    /// The runnable ones in order of creation, kept up to date so that asking the strategy allocates nothing.
    private final ArrayList<HostThread> runnable = new ArrayList<>();
    private final List<HostThread> runnableView = Collections.unmodifiableList(runnable);
    private final ConcurrentLinkedQueue<Runnable> fromOutside = new ConcurrentLinkedQueue<>();
    private final AtomicInteger postedCount = new AtomicInteger();
    private volatile IdlePace pace;
    private volatile HostThread current;
    private volatile Thread runner;
    private volatile Throwable failure;
    private volatile boolean finished;
    private volatile boolean outsideOpen;
    private boolean stalled;
    private int ended;
    private SwitchObserver observer;
    private BatonObserver batonObserver;
    private final PriorityQueue<Look> looks = new PriorityQueue<>(Comparator.comparingLong(Look::deadline));
    private long nextLook = Long.MAX_VALUE;

    private record Look(long deadline, Runnable action) {
    }

    /// How time passes while every host thread waits.
    public enum IdlePace {
        /// Skip to the next timer at once: deterministic, and as fast as can be.
        SKIP,
        /// Sleep as long as the timer says, so that an interactive guest keeps step with its user.
        REAL_TIME
    }

    /// A scheduler without host threads.
    public Scheduler(VirtualClock clock, SchedulingStrategy strategy, IdlePace pace) {
        this.clock = clock;
        this.strategy = strategy;
        this.explores = strategy.explores();
        this.pace = pace;
    }

    /// The platform's clock.
    public VirtualClock clock() {
        return clock;
    }

    /// Creates a host thread; it is runnable and starts when the strategy chooses it.
    public HostThread spawn(String name, Runnable body) {
        var holder = new HostThread[1];
        var created = new HostThread(threads.size(), name, () -> runBody(holder[0], body));
        holder[0] = created;
        threads.add(created);
        runnable.add(created);
        created.thread.start();
        return created;
    }

    /// Runs the host threads until all have ended. Called by an ordinary thread. A throwable that escapes a host
    /// thread ends the run and is rethrown here.
    public void run() {
        runner = Thread.currentThread();
        passBaton(pickOrWait(null));
        while (!finished) {
            LockSupport.park(this);
        }
        current = null;
        if (failure instanceof RuntimeException e) {
            throw e;
        }
        if (failure instanceof Error e) {
            throw e;
        }
    }

    /// The host thread that holds the baton, or null outside a run.
    public HostThread current() {
        return current;
    }

    /// True when the run ended because every host thread waited for something that could never come.
    public boolean stalled() {
        return stalled;
    }

    /// Declares that [#post] may be called, so that a fully parked platform waits instead of stalling.
    public void expectOutside(boolean open) {
        outsideOpen = open;
        if (runner != null) {
            wakeWaiter();
        }
    }

    /// Changes how time passes while every host thread waits. Any thread may call it.
    public void pace(IdlePace value) {
        pace = value;
        if (runner != null) {
            wakeWaiter();
        }
    }

    /// Sets who sees the switch points; null for nobody.
    public void observer(SwitchObserver observer) {
        this.observer = observer;
    }

    /// Sets who sees every change of the baton's holder; null for nobody.
    public void batonObserver(BatonObserver value) {
        batonObserver = value;
    }

    /// Runs `action` at the first switch point at or after `deadline`, or when time skips past it. Unlike a timer of the clock it has
    /// no part in the run: nothing ends a slice for it, and no waiting host thread is woken for it.
    ///
    /// @param deadline virtual time in ticks
    /// @param action   must change nothing of the platform
    public void lookAt(long deadline, Runnable action) {
        looks.add(new Look(deadline, action));
        nextLook = looks.peek().deadline();
    }

    /// A point at which the current host thread may lose the baton, about nothing in particular.
    public void switchPoint(SwitchPoint point) {
        switchPoint(point, null, 0);
    }

    /// A point at which the current host thread may lose the baton.
    ///
    /// @param owner what it is about: a lock, a logical processor, the platform's memory; see [SwitchObserver#reached]
    /// @param where which part of `owner`: an address, a leaf number; 0 when it has no parts
    public void switchPoint(SwitchPoint point, Object owner, long where) {
        if (clock.now() >= nextLook) {
            look();
        }
        if (postedCount.get() != 0) {
            drainOutside();
        }
        if (observer != null) {
            observer.reached(current, point, owner, where);
        }
        var self = current;
        if (self != null && self.uninterruptible && point.isHostKernels()) {
            throw new IllegalStateException(point + " in a region that the host kernel must not be interrupted in, about " + owner);
        }
        if (self == null || runnable.size() == 1) {
            return;
        }
        var next = strategy.atSwitchPoint(self, point, owner, where, runnableView);
        if (next != self) {
            handOver(self, next);
        }
    }

    /// Until [#endUninterruptible] the current host thread must reach no switch point of the host kernel's own: only the processor and
    /// its firmware, which it has entered, may let others run.
    @Noinstr public void beginUninterruptible() {
        if (current != null) {
            current.uninterruptible = true;
        }
    }

    /// Ends what [#beginUninterruptible] began.
    @Noinstr public void endUninterruptible() {
        if (current != null) {
            current.uninterruptible = false;
        }
    }

    /// A [SwitchPoint#LOCKED], for a strategy that explores; to all others nothing happens, which costs nothing.
    ///
    /// @param owner what holds the lock word
    /// @param where the lock word's address or offset in `owner`
    public void locked(Object owner, long where) {
        if (explores) {
            switchPoint(SwitchPoint.LOCKED, owner, where);
        }
    }

    /// The current host thread waits until [#unpark]; returns at once when it was unparked since its last wait.
    public void park() {
        var self = current;
        if (self.wakeUpPending) {
            self.wakeUpPending = false;
            return;
        }
        leave(self, HostThread.State.PARKED);
        var next = pickOrWait(self);
        if (next != self) {
            handOver(self, next); // with null (stalled) the run ends and this thread never goes on
        }
        self.wakeUpPending = false;
    }

    /// Makes a parked host thread runnable, or keeps its next [#park] from waiting.
    public void unpark(HostThread thread) {
        thread.wakeUpPending = true;
        if (thread.state == HostThread.State.PARKED) {
            thread.state = HostThread.State.RUNNABLE;
            int at = runnable.size();
            while (at > 0 && runnable.get(at - 1).id() > thread.id()) {
                at--;
            }
            runnable.add(at, thread);
        }
    }

    private void leave(HostThread thread, HostThread.State state) {
        thread.state = state;
        runnable.remove(thread);
    }

    /// The host threads in order of creation, those that have ended included.
    public List<HostThread> threads() {
        return Collections.unmodifiableList(threads);
    }

    /// Hands an action of the outside world (console input, a time-out) to the platform; it runs at the next
    /// switch point on the host thread that holds the baton. The only method that any thread may call.
    public void post(Runnable action) {
        fromOutside.add(action);
        postedCount.incrementAndGet();
        wakeWaiter();
    }

    private void wakeWaiter() {
        var holder = current;
        LockSupport.unpark(holder == null ? runner : holder.thread);
    }

    private void runBody(HostThread self, Runnable body) {
        self.awaitBaton();
        if (finished) {
            return;
        }
        try {
            body.run();
        } catch (Throwable t) {
            failure = t;
        }
        leave(self, HostThread.State.ENDED);
        ended++;
        if (failure == null) {
            var next = pickOrWait(self);
            if (next != null) {
                self.hasBaton = false;
                passBaton(next);
                return;
            }
        }
        finished = true;
        LockSupport.unpark(runner);
    }

    private void handOver(HostThread self, HostThread next) {
        self.hasBaton = false;
        passBaton(next);
        self.awaitBaton();
    }

    private void passBaton(HostThread next) {
        if (next == null) {
            finished = true;
            LockSupport.unpark(runner);
            return;
        }
        var previous = current;
        current = next;
        if (batonObserver != null) {
            batonObserver.passed(previous, next, previous == null || previous.state != HostThread.State.RUNNABLE);
        }
        next.giveBaton();
    }

    private HostThread pickOrWait(HostThread previous) {
        while (true) {
            if (clock.now() >= nextLook) {
                look();
            }
            drainOutside();
            if (!runnable.isEmpty()) {
                return previous == null || runnable.size() == 1 ? runnable.getFirst() : strategy.next(previous, runnableView);
            }
            if (ended == threads.size()) {
                return null;
            }
            if (!letTimePass()) {
                stalled = true;
                return null;
            }
        }
    }

    private boolean letTimePass() {
        long deadline = clock.nextDeadline();
        if (deadline == Long.MAX_VALUE) {
            if (!outsideOpen) {
                return false;
            }
            parkUnlessPosted(0);
            return true;
        }
        if (pace == IdlePace.REAL_TIME && outsideOpen) {
            long nanos = clock.nanosOfTicks(Math.max(0, deadline - clock.now()));
            long until = System.nanoTime() + nanos;
            for (long left = nanos; left > 0 && postedCount.get() == 0; left = until - System.nanoTime()) {
                parkUnlessPosted(left);
            }
            if (postedCount.get() != 0) {
                clock.advance(Math.max(0, Math.min(deadline - clock.now(),
                        clock.ticksOfNanos(nanos - Math.max(0, until - System.nanoTime())))));
                return true;
            }
        }
        return clock.skipToNextDeadline();
    }

    private void parkUnlessPosted(long nanos) {
        if (postedCount.get() == 0 && outsideOpen) {
            if (nanos == 0) {
                LockSupport.park(this);
            } else {
                LockSupport.parkNanos(this, nanos);
            }
        }
    }

    private void look() {
        while (!looks.isEmpty() && looks.peek().deadline() <= clock.now()) {
            looks.remove().action().run();
        }
        nextLook = looks.isEmpty() ? Long.MAX_VALUE : looks.peek().deadline();
    }

    private void drainOutside() {
        for (var action = fromOutside.poll(); action != null; action = fromOutside.poll()) {
            postedCount.decrementAndGet();
            action.run();
        }
    }
}
