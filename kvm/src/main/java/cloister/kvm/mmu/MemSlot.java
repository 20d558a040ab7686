package cloister.kvm.mmu;

import cloister.kvm.host.GuestMemFile;
import cloister.spec.kvm.KvmAbi;

/// `struct kvm_memory_slot`.
///
/// @param baseGfn       first guest frame number
/// @param npages        length in pages, at least 1
/// @param userspaceAddr address of the first page in the VMM's memory
/// @param gmem          the guest_memfd bound to the slot, or null
/// @param gmemPgoff     page index in `gmem` of the first page
public record MemSlot(int id, long baseGfn, long npages, long userspaceAddr, int flags, GuestMemFile gmem,
                      long gmemPgoff) {
    /// Whether guest frame `gfn` lies in the slot.
    public boolean contains(long gfn) {
        return gfn >= baseGfn && gfn < baseGfn + npages;
    }

    /// The VMM's address of guest frame `gfn`.
    public long hva(long gfn) {
        return userspaceAddr + ((gfn - baseGfn) << 12);
    }

    /// The page index in the guest_memfd of guest frame `gfn`.
    public long gmemIndex(long gfn) {
        return gmemPgoff + gfn - baseGfn;
    }

    /// Whether writes go to the VMM.
    public boolean readOnly() {
        return (flags & KvmAbi.MEM_READONLY) != 0;
    }
}
