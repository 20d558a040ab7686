package cloister.kvm;

/// The ring in which a vCPU tells which pages it wrote, as the VMM maps it from the vCPU's file. Entries are filled in order and round
/// again; the VMM takes each that is dirty, marks it with [#harvested], and calls [KvmVm#resetDirtyRings]. [LINUX
/// "KVM_CAP_DIRTY_LOG_RING"]
public interface DirtyGfnRing {
    /// KVM_DIRTY_GFN_F_DIRTY: the entry is full.
    int FLAG_DIRTY = 1;
    /// KVM_DIRTY_GFN_F_RESET: the VMM has taken it.
    int FLAG_RESET = 1 << 1;

    /// Entries, a power of two.
    int size();

    /// The flags of entry `index`, FLAG_ bits.
    int flags(int index);

    /// The slot of entry `index`, address space in 31:16.
    int slot(int index);

    /// The page within the slot of entry `index`.
    long offset(int index);

    /// The VMM has taken entry `index`.
    void harvested(int index);
}
