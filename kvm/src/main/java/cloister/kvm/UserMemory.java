package cloister.kvm;

/// The VMM's virtual address space: anonymous mappings whose pages get a platform frame when first written or when
/// a guest touches them. Unwritten pages read as zeros.
public interface UserMemory {
    /// mmap(MAP_ANONYMOUS).
    ///
    /// @param size bytes, a positive multiple of 4096
    /// @return the address, aligned to 2 MiB
    /// @throws KvmException EINVAL, ENOMEM
    long map(long size);

    /// munmap of a whole mapping.
    ///
    /// @throws KvmException EINVAL
    void unmap(long address);

    /// madvise(MADV_DONTNEED): frees the frames; guests lose their mappings of them.
    void discard(long address, long length);

    /// Reads 1, 2, 4 or 8 bytes, which may cross pages.
    ///
    /// @throws KvmException EFAULT outside mappings
    long read(long address, int bytes);

    /// Writes 1, 2, 4 or 8 bytes.
    void write(long address, int bytes, long value);

    /// Copies out.
    void read(long address, byte[] target, int offset, int length);

    /// Copies in.
    void write(long address, byte[] source, int offset, int length);

    /// Pages that have a frame.
    long residentPages();
}
