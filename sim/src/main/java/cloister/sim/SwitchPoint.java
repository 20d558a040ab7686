package cloister.sim;

/// The kinds of places at which a host thread may lose the baton. What a point is about (the lock, the processor, the word of
/// memory) is told beside the kind, see [Scheduler#switchPoint(SwitchPoint, Object, long)]. [DESIGN Determinism]
public enum SwitchPoint {
    /// SEAMCALL begins; about the logical processor, and the leaf in RAX.
    SEAMCALL_ENTRY,
    /// SEAMCALL has ended; about the logical processor, and the leaf.
    SEAMCALL_EXIT,
    /// The TDX module is about to try a lock; about the object and address that hold the lock word.
    TRY_LOCK,
    /// The TDX module has taken a lock and is about to go on with it held; about the object and address that hold the lock word. Only
    /// strategies that explore get to see it, see [SchedulingStrategy#explores].
    LOCKED,
    /// A VM entry begins; about the logical processor, and the physical address of the VMCS.
    VM_ENTRY,
    /// A VM exit has ended; about the logical processor, and the physical address of the VMCS.
    VM_EXIT,
    /// A paging-structure entry of the hypervisor is about to change; about the memory, and the physical address of the entry.
    SPTE_CHANGE,
    /// Another atomic operation is about to change a word of memory; about the memory, and the physical address of the word.
    ATOMIC,
    /// An interprocessor interrupt was sent; about its target.
    IPI,
    /// A lock of the host kernel is about to be taken; about the lock.
    LOCK,
    /// A lock of the host kernel is held by somebody else, and the host thread is about to park; about the lock.
    LOCK_WAIT,
    /// A lock of the host kernel was released; about the lock.
    UNLOCK,
    /// A guest has used up its slice of instructions; about the processor's index.
    GUEST_SLICE,
    /// Host software gives way, because it waits for somebody who does not wake it; about nothing, or about whoever is in the way.
    YIELD;

    /// Whether code of the host kernel gets here, and neither the processor nor its firmware.
    public boolean isHostKernels() {
        return switch (this) {
            case SPTE_CHANGE, IPI, LOCK, LOCK_WAIT, UNLOCK, YIELD -> true;
            case SEAMCALL_ENTRY, SEAMCALL_EXIT, TRY_LOCK, LOCKED, VM_ENTRY, VM_EXIT, ATOMIC, GUEST_SLICE -> false;
        };
    }

    /// Whether a fair strategy lets the next host thread run here: who reaches such a point needs others to go on.
    public boolean givesWay() {
        return this == GUEST_SLICE || this == YIELD;
    }
}
