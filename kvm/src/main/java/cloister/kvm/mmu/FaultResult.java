package cloister.kvm.mmu;

/// What became of a page fault. [LINUX enum RET_PF, and the error numbers that the handlers return]
public enum FaultResult {
    /// The page is mapped now.
    FIXED,
    /// It was mapped already.
    SPURIOUS,
    /// Somebody is in the way; the access may be tried again.
    RETRY,
    /// No memory is there, or memory that only the VMM writes: MMIO.
    EMULATE,
    /// The page holds tables of the guest that are shadowed: the write is to be emulated.
    WRITE_PROTECTED,
    /// The guest's own tables do not allow the access: [VcpuMmu#guestError] tells what the guest gets.
    REFLECT,
    /// The slot is being changed, and nobody waits for this access. (EAGAIN)
    INVALID_SLOT,
    /// The access does not fit the memory attributes, or its guest_memfd is missing: KVM_EXIT_MEMORY_FAULT. (EFAULT)
    MEMORY_FAULT,
    /// The VMM has nothing mapped there, or the tables do not reach so far. (EFAULT)
    FAULT,
    /// No platform memory is left. (ENOMEM)
    NO_MEMORY,
    /// The external page tables refused: the VM is broken. (EIO)
    BUGGED;
}
