package cloister.kvm;

/// A guest_memfd: private memory that the VMM cannot map. Pages are allocated when first used. [LINUX
/// "KVM_CREATE_GUEST_MEMFD"]
public interface GuestMemfd {
    /// Bytes.
    long size();

    /// Frames allocated now.
    long allocatedPages();

    /// fallocate(FALLOC_FL_PUNCH_HOLE): zaps the range from guests and frees its frames.
    ///
    /// @throws KvmException EINVAL when not page-aligned or out of range
    void punchHole(long offset, long length);
}
