package cloister.vmm.mmu;

import cloister.kvm.Kvm;
import cloister.kvm.KvmVcpu;
import cloister.kvm.KvmVm;

/// How a TD and its vCPUs are initialised, which any VMM does the same.
public interface TdStart {
    /// KVM_TDX_INIT_VM.
    void initVm(Kvm kvm, KvmVm vm, int cpus);

    /// KVM_SET_CPUID2 and KVM_TDX_INIT_VCPU.
    void initVcpu(Kvm kvm, KvmVcpu vcpu, int cpus);
}
