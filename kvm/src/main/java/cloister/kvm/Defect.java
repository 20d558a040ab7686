package cloister.kvm;

/// Things that KVM once did wrong, or that a patch on the mailing list would have done. A VM does one only when told to.
public enum Defect {
    /// A device with non-coherent DMA that is plugged in or out makes KVM zap a TD's private memory with all the rest. Its pages are
    /// removed from the Secure EPT, and what was in them is lost: the guest finds pending pages where its memory was. [LINUX
    /// kvm_noncoherent_dma_assignment_start_or_stop without the check]
    NONCOHERENT_DMA_ZAPS_MIRROR,

    /// Memory of the VMM goes, its mappings are zapped, and nobody's TLB is flushed. [LINUX kvm_mmu_notifier_invalidate_range_start
    /// without kvm_flush_remote_tlbs]
    INVALIDATION_WITHOUT_FLUSH,
    /// A zap of a range takes only small pages out and leaves large ones. [LINUX tdp_mmu_zap_leafs]
    ZAP_FORGETS_LARGE_PAGES,
    /// KVM_GET_DIRTY_LOG gives the bits away and leaves the pages writable, so that later writes are lost. [LINUX
    /// kvm_arch_mmu_enable_log_dirty_pt_masked]
    LOG_WITHOUT_PROTECTION,
    /// A fault maps what a slot has although the slot is going away. [LINUX KVM_MEMSLOT_INVALID]
    INVALID_SLOT_IS_USED,
    /// A fault maps the page that it found although it was invalidated meanwhile. [LINUX mmu_invalidate_retry_gfn]
    FAULT_IGNORES_INVALIDATION,

    /// The frames of a hole in a guest_memfd are freed before they are unmapped: for a while guests use memory that is somebody else's.
    /// [LINUX kvm_gmem_punch_hole]
    HOLE_IS_FREED_BEFORE_UNMAPPED,
    /// Pages become private or shared, and what maps them the other way stays. [LINUX kvm_pre_set_memory_attributes]
    CONVERSION_LEAVES_MAPPINGS,

    /// A private page is taken out of the mirror, and the Secure EPT keeps it. [LINUX tdx_sept_remove_private_spte]
    MIRROR_ZAP_LEAVES_SECURE_EPT,

    /// A violation of a TD's private memory is retried until it is fixed, within one SRCU section, although the slot is going away: who
    /// deletes it waits for the section, the vCPU for the deletion. [LINUX tdx_handle_ept_violation without KVM_MEMSLOT_INVALID]
    TD_VIOLATION_WAITS_FOR_INVALID_SLOT,
    /// The same in KVM_PRE_FAULT_MEMORY. [LINUX kvm_tdp_page_prefault]
    PREFAULT_WAITS_FOR_INVALID_SLOT,
    /// A SEAMCALL that takes private memory away is repeated while the TDX module is busy, with the vCPUs running: one that keeps entering
    /// the TD, or accepting pages, can keep it busy for ever. [LINUX tdh_do_no_vcpus]
    TD_ZAP_SPINS_ON_BUSY,
    /// TDH.VP.INIT, which locks the whole TD, is called beside whatever takes private memory away, which must not find it busy. [LINUX
    /// tdx_td_vcpu_init without mmu_lock]
    TD_VP_INIT_BESIDE_ZAP,
    /// Commands of different vCPUs that build the TD are only kept apart by each vCPU's own mutex: TDH.VP.CREATE meets TDH.MR.EXTEND or
    /// TDH.MR.FINALIZE. [LINUX tdx_acquire_vm_state_locks]
    TD_COMMANDS_SIDE_BY_SIDE
}
