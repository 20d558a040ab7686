package cloister.kvm.host;

import cloister.sim.HostThread;

/// A host thread as the host kernel's scheduler knows it. [LINUX struct task_struct]
public final class Task {
    /// Null: the program itself, outside a run of the scheduler.
    final HostThread thread;
    /// Where it runs, or null when it was preempted or has not needed a processor yet.
    HostCpu cpu;
    /// Where it ran last: its caches and the vCPU's TLB are warm there.
    HostCpu last;
    /// How many nested sections it is in that must not be preempted.
    int pins;
    PreemptNotifier notifier;

    Task(HostThread thread) {
        this.thread = thread;
    }

    @Override public String toString() {
        return thread == null ? "outside" : thread.name();
    }
}
