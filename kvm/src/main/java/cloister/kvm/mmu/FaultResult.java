package cloister.kvm.mmu;

/// What became of a page fault. [LINUX enum RET_PF]
public enum FaultResult {
    /// The page is mapped now.
    FIXED,
    /// It was mapped already.
    SPURIOUS,
    /// Somebody is in the way; the access may be tried again.
    RETRY,
    /// No memory is there: MMIO.
    EMULATE,
    /// The access does not fit the memory attributes, or its backing is missing: KVM_EXIT_MEMORY_FAULT.
    MEMORY_FAULT,
    /// The slot is being changed.
    INVALID_SLOT,
    /// The external page tables refused: the VM is broken.
    BUGGED
}
