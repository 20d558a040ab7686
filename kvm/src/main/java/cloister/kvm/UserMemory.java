package cloister.kvm;

/// The VMM's virtual address space. Anonymous mappings and files have pages that get a platform frame when
/// first written or when a guest touches them; unwritten pages read as zeros.
public interface UserMemory {
    /// mmap(MAP_ANONYMOUS).
    ///
    /// @param size bytes, a positive multiple of 4096
    /// @return the address, aligned to 2 MiB
    /// @throws KvmException EINVAL, ENOMEM
    long map(long size);

    /// mmap(MAP_ANONYMOUS | MAP_HUGETLB | MAP_HUGE_1GB).
    ///
    /// @param size bytes, a positive multiple of 1 GiB
    /// @return the address, aligned to 1 GiB
    /// @throws KvmException EINVAL, ENOMEM
    long mapHuge(long size);

    /// memfd_create and ftruncate.
    ///
    /// @param size bytes, a positive multiple of 4096
    /// @throws KvmException EINVAL
    SharedFile createFile(long size);

    /// mmap(MAP_SHARED) of a file.
    ///
    /// @param offset page-aligned
    /// @throws KvmException EINVAL
    long map(SharedFile file, long offset, long size);

    /// mmap(MAP_SHARED) of a guest_memfd.
    ///
    /// @param offset page-aligned
    /// @throws KvmException EINVAL; ENODEV when it was made without [GuestMemfd#FLAG_MMAP]
    long map(GuestMemfd file, long offset, long size);

    /// mprotect of a whole mapping: PROT_READ with or without PROT_WRITE.
    ///
    /// @throws KvmException EINVAL
    void protect(long address, boolean writable);

    /// munmap of a whole mapping.
    ///
    /// @throws KvmException EINVAL
    void unmap(long address);

    /// madvise(MADV_DONTNEED): frees the frames; guests lose their mappings of them. Pages of 1 GiB go whole: the range begins with one,
    /// and one of which it has only a part stays.
    ///
    /// @throws KvmException EINVAL, EFAULT outside mappings
    void discard(long address, long length);

    /// What the kernel does to find out which pages are in use, as when /sys/kernel/mm/page_idle is written.
    ///
    /// @return whether a guest accessed a page from `start` to `end` since the last call
    boolean clearAccessed(long start, long end);

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
