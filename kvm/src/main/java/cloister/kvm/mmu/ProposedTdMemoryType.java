package cloister.kvm.mmu;

import cloister.spec.vmx.Ept;
import cloister.spec.x86.MemoryType;

/// What was proposed for the shared memory of TDs in 2023: uncached for host MMIO, else write-back, and the guest's PAT counts only while
/// a device's accesses are not coherent. Private memory is write-back by the TDX module's decision, whatever a mirror entry says.
/// [LINUX-ML "KVM: TDX: Add support for memory types"]
enum ProposedTdMemoryType implements MemoryTypePolicy {
    INSTANCE;

    @Override public boolean followsDevices(MemoryTypes types) {
        return true;
    }

    @Override public long typeBits(MemoryTypes types, VcpuMmu.Owner vcpu, long gfn, int level, boolean hostMmio) {
        var type = hostMmio ? MemoryType.UC : MemoryType.WB;
        long bits = (long) type.encoding() << Ept.MEMORY_TYPE_SHIFT;
        return hostMmio || types.hasNoncoherentDma() ? bits : bits | Ept.IGNORE_PAT;
    }
}
