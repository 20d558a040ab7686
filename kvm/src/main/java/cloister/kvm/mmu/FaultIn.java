package cloister.kvm.mmu;

import cloister.kvm.Defect;
import cloister.kvm.host.ProcessMemory;

/// Finds what a fault is to map: a page of the VMM's memory or of a guest_memfd, a device, or nothing. mmu_lock is not held. [LINUX
/// kvm_mmu_faultin_pfn, __kvm_mmu_faultin_pfn]
final class FaultIn {
    private final Mmu mmu;

    FaultIn(Mmu mmu) {
        this.mmu = mmu;
    }

    /// Finds what is behind the frame of a fault. [LINUX kvm_mmu_faultin_pfn]
    ///
    /// @return null when there is a page or an entry for MMIO to map, else what the fault comes to
    FaultResult find(VcpuMmu vcpu, PageFault fault) {
        fault.invalidationSequence = mmu.invalidationSequence();
        if (fault.isPrivate != mmu.isPrivate(fault.gfn)) {
            return FaultResult.MEMORY_FAULT;
        }
        var slot = fault.slot;
        if (slot == null) {
            return noSlot(vcpu, fault);
        }
        if (slot.isInvalid() && !mmu.has(Defect.INVALID_SLOT_IS_USED)) {
            return fault.prefetch && !mmu.has(Defect.PREFAULT_WAITS_FOR_INVALID_SLOT) ? FaultResult.INVALID_SLOT : FaultResult.RETRY;
        }
        if (mmu.mustRetry(fault.invalidationSequence, fault.gfn)) {
            return FaultResult.RETRY;
        }
        var result = fault.isPrivate || slot.gmemOnly() ? findInGmem(fault) : findInUserMemory(fault);
        return result == null && mmu.mustRetry(fault.invalidationSequence, fault.gfn) ? FaultResult.RETRY : result;
    }

    private FaultResult noSlot(VcpuMmu vcpu, PageFault fault) {
        if (fault.isPrivate) {
            return FaultResult.MEMORY_FAULT;
        }
        vcpu.rememberMmio(fault.gfn);
        return mmu.masks().mmioCaching() && fault.gfn <= mmu.maxGfn() ? null : FaultResult.EMULATE;
    }

    private static FaultResult findInGmem(PageFault fault) {
        var file = fault.slot.gmem();
        if (file == null) {
            return FaultResult.MEMORY_FAULT;
        }
        long pa = file.fault(fault.slot.gmemIndex(fault.gfn));
        if (pa < 0) {
            return FaultResult.NO_MEMORY;
        }
        fault.pa = pa;
        fault.mayWrite = true;
        fault.maxLevel = 1;
        return null;
    }

    private FaultResult findInUserMemory(PageFault fault) {
        var slot = fault.slot;
        if (slot.readOnly() && fault.write) {
            return FaultResult.EMULATE;
        }
        long page = mmu.module().userMemory().pin(slot.hva(fault.gfn), fault.write);
        if (page < 0) {
            return page == ProcessMemory.NO_MEMORY ? FaultResult.NO_MEMORY : FaultResult.FAULT;
        }
        fault.pa = page & ~Mmu.PAGE_MASK;
        fault.mayWrite = (page & ProcessMemory.WRITABLE) != 0 && !slot.readOnly();
        fault.hostMmio = (page & ProcessMemory.HOST_MMIO) != 0;
        return null;
    }
}
