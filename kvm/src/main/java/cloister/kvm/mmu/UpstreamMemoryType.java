package cloister.kvm.mmu;

import cloister.spec.vmx.Ept;

/// [LINUX vmx_get_mt_mask]
enum UpstreamMemoryType implements MemoryTypePolicy {
    INSTANCE;

    @Override public boolean followsDevices(MemoryTypes types) {
        return types.hasIgnoreGuestPatQuirk();
    }

    @Override public long typeBits(MemoryTypes types, VcpuMmu.Owner vcpu, long gfn, int level, boolean hostMmio) {
        if (hostMmio) {
            return (long) Ept.TYPE_UC << Ept.MEMORY_TYPE_SHIFT;
        }
        long writeBack = (long) Ept.TYPE_WB << Ept.MEMORY_TYPE_SHIFT;
        return types.ignoresGuestPat() ? writeBack | Ept.IGNORE_PAT : writeBack;
    }
}
