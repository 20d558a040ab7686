package cloister.sim;

import java.util.concurrent.locks.LockSupport;

/// A thread of the simulated host: a vCPU thread or a worker. Runs only while it holds the [Scheduler]'s baton.
public final class HostThread {
    enum State { RUNNABLE, PARKED, ENDED }

    private final int id;
    private final String name;
    final Thread thread;
    State state = State.RUNNABLE;
    boolean wakeUpPending;
    /// Between [Scheduler#beginUninterruptible] and its end.
    boolean uninterruptible;
    volatile boolean hasBaton;

    HostThread(int id, String name, Runnable body) {
        this.id = id;
        this.name = name;
        this.thread = Thread.ofPlatform().name(name).daemon().unstarted(body);
    }

    /// Position in order of creation, from 0.
    public int id() {
        return id;
    }

    /// The name given at creation, for traces.
    public String name() {
        return name;
    }

    void awaitBaton() {
        while (!hasBaton) {
            LockSupport.park(this);
        }
    }

    void giveBaton() {
        hasBaton = true;
        LockSupport.unpark(thread);
    }

    @Override public String toString() {
        return name;
    }
}
