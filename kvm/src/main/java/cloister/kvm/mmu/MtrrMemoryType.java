package cloister.kvm.mmu;

import cloister.spec.vmx.Ept;
import cloister.spec.x86.MemoryType;

/// What KVM did before 6.11: as long as every device's accesses are coherent, all memory is write-back whatever the guest says. A
/// device whose accesses are not makes the guest's MTRRs count, and CR0.CD, which beats them. [LINUX v6.8 vmx_get_mt_mask]
enum MtrrMemoryType implements MemoryTypePolicy {
    INSTANCE;

    @Override public long typeBits(MemoryTypes types, VcpuMmu.Owner vcpu, long gfn, int level, boolean hostMmio) {
        if (hostMmio) {
            return bits(MemoryType.UC);
        }
        if (!types.hasNoncoherentDma()) {
            return bits(MemoryType.WB) | Ept.IGNORE_PAT;
        }
        if (vcpu.cachesDisabled()) {
            return bits(types.clearsCacheDisable() ? MemoryType.WB : MemoryType.UC) | Ept.IGNORE_PAT;
        }
        if (!vcpu.mtrrs().isEnabled()) {
            // Who is not told of MTRRs will never enable them, and would run uncached for ever. [LINUX v6.8 mtrr_disabled_type]
            return bits(vcpu.hasMtrrs() ? MemoryType.UC : MemoryType.WB);
        }
        return bits(vcpu.mtrrs().typeOf(gfn << Mmu.PAGE_SHIFT));
    }

    @Override public int maxLevel(MemoryTypes types, VcpuMmu.Owner vcpu, long gfn, int level) {
        int result = level;
        if (followsGuest(types) && !vcpu.cachesDisabled()) {
            while (result > 1 && !isUniform(vcpu, gfn, result)) {
                result--;
            }
        }
        return result;
    }

    private static boolean isUniform(VcpuMmu.Owner vcpu, long gfn, int level) {
        long span = PageTables.span(level);
        return vcpu.mtrrs().isUniform((gfn & -span) << Mmu.PAGE_SHIFT, span << Mmu.PAGE_SHIFT);
    }

    @Override public boolean followsDevices(MemoryTypes types) {
        return true;
    }

    @Override public boolean followsGuest(MemoryTypes types) {
        return types.hasNoncoherentDma();
    }

    private static long bits(MemoryType type) {
        return (long) type.encoding() << Ept.MEMORY_TYPE_SHIFT;
    }
}
