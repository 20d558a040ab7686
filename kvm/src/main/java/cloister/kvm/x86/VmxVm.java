package cloister.kvm.x86;

import cloister.kvm.host.Host;
import cloister.spec.kvm.VmType;

/// An ordinary VM.
final class VmxVm extends Vm {
    private static final int EPT_LEVELS = 4;

    VmxVm(Host host) {
        super(host, false, Math.min(MAX_VCPUS, host.processors().size()));
        mmu.createDirectRoot(EPT_LEVELS);
    }

    @Override public VmType type() {
        return VmType.DEFAULT;
    }

    @Override Vcpu newVcpu(int id) {
        return new VmxVcpu(this, id);
    }

    @Override boolean hasPrivateMemory() {
        return false;
    }

    @Override void destroy() {
        for (var vcpu : vcpus) {
            ((VmxVcpu) vcpu).free();
        }
        mmu.destroy();
    }
}
