package cloister.kvm.vcpu;

/// Where KVM_RUN of a vCPU is. [LINUX kvm_arch_vcpu_ioctl_run, vcpu_run]
enum RunState {
    /// The last exit is finished with the VMM's answer.
    COMPLETING,
    /// Signals, the death of the VM, timers; then whether the vCPU runs or waits.
    CHECKING,
    /// The vCPU waits for an event.
    BLOCKED,
    /// Requests are served, then the guest is entered.
    ENTERING,
    /// The guest has exited, and KVM looks why.
    EXITED,
    /// KVM_RUN returns.
    LEAVING
}
