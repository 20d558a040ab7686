package cloister.kvm.mmu;

/// What an MMU asks of the VM that it belongs to.
public interface MmuVm {
    /// Makes every vCPU drop its translations before it runs on. Returns when none runs with an old one. [LINUX
    /// kvm_flush_remote_tlbs]
    void flushRemoteTlbs();

    /// Makes every vCPU call [VcpuMmu#reload] before it runs on. Returns when none runs with an invalid root; mmu_lock is held. [LINUX
    /// KVM_REQ_MMU_FREE_OBSOLETE_ROOTS]
    void reloadRoots();

    /// Makes every vCPU leave the guest once, without waiting for it. [LINUX kvm_vcpu_kick]
    void kickVcpus();

    /// Makes vCPUs that run empty the processor's own dirty log. [LINUX kvm_arch_sync_dirty_log]
    default void syncCpuDirtyLogs() {
    }

    /// The VM is broken: no vCPU runs any more. [LINUX KVM_BUG_ON]
    void bug();
}
