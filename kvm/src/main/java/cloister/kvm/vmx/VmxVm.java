package cloister.kvm.vmx;

import cloister.kvm.host.Host;
import cloister.kvm.host.HostCpu;
import cloister.kvm.mmu.MmuModule;
import cloister.kvm.vcpu.Extensions;
import cloister.kvm.vcpu.VcpuFile;
import cloister.kvm.vcpu.Vm;
import cloister.spec.kvm.VmType;

/// An ordinary VM, perhaps with private memory. [LINUX arch/x86/kvm/vmx/vmx.c, KVM_X86_SW_PROTECTED_VM]
public final class VmxVm extends Vm {
    private final VmType type;

    /// @param type DEFAULT or SW_PROTECTED
    public VmxVm(Host host, Extensions extensions, MmuModule mmuModule, VmType type) {
        super(host, extensions, mmuModule, type == VmType.SW_PROTECTED, MAX_VCPUS);
        this.type = type;
    }

    /// [LINUX vmclear_local_loaded_vmcss]
    @Override public void cpuOffline(HostCpu cpu) {
        for (var vcpu : vcpus) {
            ((VmxVcpu) vcpu).vmcs.clearOn(cpu);
        }
    }

    /// VPIDs are the host's, not the VM's: two vCPUs on one processor must not see each other's translations. [LINUX allocate_vpid]
    int allocateVpid() {
        return host.vpids().allocate();
    }

    void freeVpid(int vpid) {
        host.vpids().free(vpid);
    }

    @Override public VmType type() {
        return type;
    }

    @Override public VcpuFile newVcpu(int id) {
        return new VmxVcpu(this, id);
    }

    @Override public boolean hasPrivateMemory() {
        return type == VmType.SW_PROTECTED;
    }

    @Override protected void destroy(VcpuFile vcpu) {
        ((VmxVcpu) vcpu).free();
    }

    @Override public void destroy() {
        closeFiles();
        for (var vcpu : vcpus) {
            ((VmxVcpu) vcpu).free();
        }
        mmu.destroy();
    }
}
