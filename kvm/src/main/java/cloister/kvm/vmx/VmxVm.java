package cloister.kvm.vmx;

import cloister.kvm.host.Host;
import cloister.kvm.vcpu.Vcpu;
import cloister.kvm.vcpu.Vm;
import cloister.spec.kvm.VmType;

/// An ordinary VM.
public final class VmxVm extends Vm {
    private static final int EPT_LEVELS = 4;

    public VmxVm(Host host) {
        super(host, false, Math.min(MAX_VCPUS, host.processors().size()));
        mmu.createDirectRoot(EPT_LEVELS);
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
