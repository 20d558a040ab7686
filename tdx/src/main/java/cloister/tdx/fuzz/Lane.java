package cloister.tdx.fuzz;

import java.util.concurrent.locks.LockSupport;

/// The flow of control of one logical processor. A task runs on it until it suspends itself at a switch point, and goes on when
/// the driver says so: exactly one of driver and lanes runs at any time, so that a sequence has one outcome.
final class Lane implements AutoCloseable {
    /// Unwinds a task that will never go on.
    private static final class Abandoned extends Error {
        private static final long serialVersionUID = 1L;

        Abandoned() {
            super("abandoned", null, false, false);
        }
    }

    private Thread thread;
    private Thread driver;
    private Runnable task;
    private Throwable failure;
    private boolean abandoned;
    private volatile boolean laneRuns;

    /// Runs a task to its end or until it suspends itself.
    void start(Runnable body) {
        task = body;
        if (thread == null) {
            thread = Thread.ofVirtual().unstarted(this::loop);
            driver = Thread.currentThread();
            laneRuns = true;
            thread.start();
            await();
        } else {
            resume();
        }
    }

    /// Goes on with the suspended task, to its end or until it suspends itself again.
    void resume() {
        driver = Thread.currentThread();
        laneRuns = true;
        LockSupport.unpark(thread);
        await();
    }

    private void await() {
        while (laneRuns) {
            LockSupport.park(this);
        }
        var thrown = failure;
        failure = null;
        switch (thrown) {
            case null -> {
            }
            case RuntimeException e -> throw e;
            case Abandoned _ -> {
            }
            case Error e -> throw e;
            default -> throw new IllegalStateException(thrown);
        }
    }

    private void loop() {
        while (task != null) {
            try {
                task.run();
            } catch (Throwable t) {
                failure = t;
            }
            task = null;
            pause();
        }
    }

    /// Called by the task.
    void suspend() {
        pause();
        if (abandoned) {
            throw new Abandoned();
        }
    }

    private void pause() {
        laneRuns = false;
        LockSupport.unpark(driver);
        while (!laneRuns) {
            LockSupport.park(this);
        }
    }

    /// Unwinds the suspended task, if any, and ends the thread.
    @Override public void close() {
        abandoned = true;
        while (task != null) {
            try {
                resume();
            } catch (RuntimeException | Error unwinding) {
                // What a task throws on its way out is of no interest any more.
            }
        }
        if (thread != null) {
            laneRuns = true;
            LockSupport.unpark(thread);
        }
    }
}
