package cloister.kvm.mmu;

import cloister.sim.Scheduler;
import cloister.sim.TimerOwner;
import cloister.sim.VirtualClock;

/// The worker that gives tables up from time to time which are there only because something was executed, so that memory that is only
/// data by then is mapped by large pages again. [LINUX kvm_nx_huge_page_recovery_worker]
///
/// Linux has a thread that sleeps. Here a timer starts a thread for each time, and it is armed only while there are such tables: a guest
/// for which nothing can come any more is still known as one. The times are the same.
final class NxRecovery implements TimerOwner<NxRecovery.NxTimer> {
    /// The timers of a VM's MMU.
    enum NxTimer {
        /// It is time to give tables up.
        RECOVERY
    }

    private static final long NANOS_PER_MILLI = 1_000_000;
    private static final long NEVER = -1;

    private final Mmu mmu;
    private final Scheduler scheduler;
    private final NxRecoveryPace pace;
    /// Ticks between two times.
    private final long period;
    /// When tables were given up last, in ticks; NEVER before the VM runs.
    private long last = NEVER;
    private VirtualClock.Timer timer;
    private boolean working;
    private boolean stopped;

    NxRecovery(Mmu mmu, Scheduler scheduler, NxRecoveryPace pace) {
        this.mmu = mmu;
        this.scheduler = scheduler;
        this.pace = pace;
        this.period = scheduler.clock().ticksOfNanos(pace.period() * NANOS_PER_MILLI);
    }

    /// The VM runs: periods count from here. [LINUX kvm_mmu_post_init_vm]
    void start() {
        if (last == NEVER) {
            last = scheduler.clock().now();
        }
    }

    /// There is something to give up.
    void arm() {
        if (timer != null || working || stopped || period == 0) {
            return;
        }
        start();
        long now = scheduler.clock().now();
        last += (now - last) / period * period; // when there was nothing to give up
        timer = scheduler.clock().schedule(last + period, this, NxTimer.RECOVERY);
    }

    @Override public void timerFired(NxTimer kind) {
        timer = null;
        if (mmu.nxHugePages().enabled()) {
            working = true;
            scheduler.spawn("kvm-nx-lpage-recovery", this::work);
        }
    }

    private void work() {
        try {
            if (!stopped) {
                mmu.recoverNxHugePages(pace.ratio());
            }
        } finally {
            last = scheduler.clock().now();
            working = false;
        }
        if (mmu.nxHugePages().tracked() > 0) {
            arm();
        }
    }

    /// The VM goes. Nothing is given up any more when this returns. [LINUX kvm_mmu_pre_destroy_vm]
    void stop() {
        stopped = true;
        if (timer != null) {
            timer.cancel();
            timer = null;
        }
        while (working && scheduler.current() != null) {
            mmu.letOthersRun();
        }
    }
}
