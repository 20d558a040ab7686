package cloister.kvm.vmx;

import cloister.kvm.host.Host;
import cloister.kvm.mmu.MmuModule;
import cloister.kvm.vcpu.Vcpu;
import cloister.kvm.vcpu.Vm;
import cloister.spec.kvm.VmType;

/// An ordinary VM.
public final class VmxVm extends Vm {
    /// A VM without vCPUs.
    public VmxVm(Host host, MmuModule mmuModule) {
        super(host, mmuModule, false, Math.min(MAX_VCPUS, host.processors().size()));
    }

    @Override public VmType type() {
        return VmType.DEFAULT;
    }

    @Override public Vcpu newVcpu(int id) {
        return new VmxVcpu(this, id);
    }

    @Override public boolean hasPrivateMemory() {
        return false;
    }

    @Override public void destroy() {
        for (var vcpu : vcpus) {
            ((VmxVcpu) vcpu).free();
        }
        mmu.destroy();
    }
}
