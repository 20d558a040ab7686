package cloister.kvm;

/// Things that KVM once did wrong, or that a patch on the mailing list would have done. A VM does one only when told to.
public enum Defect {
    /// A device with non-coherent DMA that is plugged in or out makes KVM zap a TD's private memory with all the rest. Its pages are
    /// removed from the Secure EPT, and what was in them is lost: the guest finds pending pages where its memory was. [LINUX
    /// kvm_noncoherent_dma_assignment_start_or_stop without the check]
    NONCOHERENT_DMA_ZAPS_MIRROR
}
