package cloister.kvm.host;

/// Told when the task that registered it gets and loses a processor. [LINUX struct preempt_ops]
public interface PreemptNotifier {
    /// The task runs on `cpu` now, which it holds meanwhile. May take switch points.
    void schedIn(HostCpu cpu);

    /// The task does not run on `cpu` any more. Called by whoever takes the processor; takes no switch points.
    void schedOut(HostCpu cpu);
}
