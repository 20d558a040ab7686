package cloister.kvm;

/// A guest_memfd: private memory that the VMM cannot map, or memory that it can when made so. Pages are allocated when first used. [LINUX
/// "KVM_CREATE_GUEST_MEMFD"]
public interface GuestMemfd {
    /// GUEST_MEMFD_FLAG_MMAP: the VMM may map the file, and shared accesses of guests go to it.
    long FLAG_MMAP = 1;
    /// GUEST_MEMFD_FLAG_INIT_SHARED: its pages are shared with the VMM.
    long FLAG_INIT_SHARED = 1 << 1;

    /// Bytes.
    long size();

    /// Frames allocated now.
    long allocatedPages();

    /// fallocate: gives each page of the range a frame.
    ///
    /// @throws KvmException EINVAL when not page-aligned or beyond the end, EFBIG when the range wraps, ENOMEM
    void allocate(long offset, long length);

    /// fallocate(FALLOC_FL_PUNCH_HOLE): zaps the range from guests and frees its frames. What lies beyond the end does not matter.
    ///
    /// @throws KvmException EINVAL when not page-aligned, EFBIG when the range wraps
    void punchHole(long offset, long length);
}
