package cloister.kvm.host;

import cloister.kvm.GuestMemfd;
import cloister.kvm.KvmException;
import cloister.kvm.SharedFile;
import cloister.kvm.UserMemory;
import cloister.memory.HostMemory;
import cloister.memory.PhysicalMemory;
import cloister.spec.kvm.Errno;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.TreeMap;

/// The address space of the VMM's process: anonymous memory, mapped files, mapped guest_memfds, device regions. Who maps its pages into
/// guests listens for invalidations.
public final class ProcessMemory implements UserMemory {
    /// Bits of [#pin] beside the physical address.
    public static final int WRITABLE = 1;
    public static final int HOST_MMIO = 1 << 1;
    /// Results of [#pin] that are no address: nothing is mapped there, or not so; no memory is left.
    public static final long NO_MAPPING = -1;
    public static final long NO_MEMORY = -2;

    /// The first address that no process has. (TASK_SIZE_MAX with 4-level paging)
    public static final long END = (1L << 47) - PhysicalMemory.FRAME_SIZE;

    private static final long FIRST_ADDRESS = 0x7f00_0000_0000L;
    private static final long PAGE = PhysicalMemory.FRAME_SIZE;
    private static final long GIB = 1L << 30;

    private final HostMemory memory;
    private final FrameAllocator frames;
    private final TreeMap<Long, Mapping> mappings = new TreeMap<>();
    private final List<InvalidationListener> listeners = new ArrayList<>();
    private long nextAddress = FIRST_ADDRESS;
    private Mapping last;

    /// An empty address space.
    public ProcessMemory(HostMemory memory, FrameAllocator frames) {
        this.memory = memory;
        this.frames = frames;
    }

    /// Registers for invalidations.
    public void addListener(InvalidationListener listener) {
        listeners.add(listener);
    }

    /// Ends a registration.
    public void removeListener(InvalidationListener listener) {
        listeners.remove(listener);
    }

    // --- mappings

    @Override public long map(long size) {
        checkSize(size);
        return add(size, FrameAllocator.BLOCK_SIZE, new Mapping.Anonymous(new FrameTable(size / PAGE), 1));
    }

    @Override public long mapHuge(long size) {
        require(size > 0 && size % GIB == 0, "mapping of 1 GiB pages of " + size);
        return add(size, GIB, new Mapping.Anonymous(new FrameTable(size / PAGE), 3));
    }

    @Override public SharedFile createFile(long size) {
        checkSize(size);
        return new HostFile(frames, size);
    }

    @Override public long map(SharedFile file, long offset, long size) {
        checkSize(size);
        require(file instanceof HostFile && offset >= 0 && offset % PAGE == 0 && offset <= file.size() - size, "range of the file");
        return add(size, FrameAllocator.BLOCK_SIZE, new Mapping.Shared((HostFile) file, offset / PAGE));
    }

    @Override public long map(GuestMemfd file, long offset, long size) {
        checkSize(size);
        require(file instanceof GuestMemFile && offset >= 0 && offset % PAGE == 0, "offset in the guest_memfd");
        if (!((GuestMemFile) file).canBeMapped()) {
            throw new KvmException(Errno.ENODEV, "the guest_memfd was made without GUEST_MEMFD_FLAG_MMAP");
        }
        return add(size, FrameAllocator.BLOCK_SIZE, new Mapping.Guest((GuestMemFile) file, offset / PAGE));
    }

    /// Maps the registers or memory of a device.
    ///
    /// @param pa physical address outside the platform's memory, page-aligned
    public long mapDevice(long pa, long size) {
        checkSize(size);
        require(pa % PAGE == 0 && pa >= memory.size(), "a device region lies outside memory");
        return add(size, FrameAllocator.BLOCK_SIZE, new Mapping.Device(pa));
    }

    private long add(long size, long alignment, Mapping.Backing backing) {
        long address = (nextAddress + alignment - 1) & -alignment;
        if (size > END - address) {
            throw new KvmException(Errno.ENOMEM, "the process has no addresses for a mapping of " + size + " bytes");
        }
        nextAddress = (address + size + (2 * FrameAllocator.BLOCK_SIZE) - 1) & -FrameAllocator.BLOCK_SIZE;
        mappings.put(address, new Mapping(address, size, backing));
        return address;
    }

    private static void checkSize(long size) {
        require(size > 0 && size % PAGE == 0, "mapping size " + size);
    }

    private static void require(boolean condition, String text) {
        if (!condition) {
            throw new KvmException(Errno.EINVAL, text);
        }
    }

    @Override public void unmap(long address) {
        var mapping = mappings.get(address);
        require(mapping != null, "no mapping starts at 0x" + Long.toHexString(address));
        invalidate(mapping.start, mapping.end, () -> {
            release(mapping, 0, mapping.page(mapping.end));
            mappings.remove(address);
            last = null;
        });
    }

    @Override public void discard(long address, long length) {
        if (length == 0) {
            return;
        }
        var mapping = mustFind(address);
        require(length > 0 && length <= mapping.end - address && (address | length) % PAGE == 0, "range is not whole pages of one mapping");
        long whole = length;
        if (mapping.hasHugePages()) {
            require(address % GIB == 0, "range begins inside a page of 1 GiB");
            whole &= -GIB; // [LINUX madvise_dontneed_free_valid_vma]
        }
        if (whole != 0) {
            releaseWithin(mapping, address, address + whole, address, address + whole);
        }
    }

    /// Gives the pages of `[address, end)` back when `[from, to)` is invalidated, or more: a large page that loses a part is split, and
    /// until then nobody may map it for the sake of its other parts. It may have come while others were told. [LINUX __split_huge_pmd]
    private void releaseWithin(Mapping mapping, long address, long end, long from, long to) {
        long first = Math.max(mapping.start, Math.min(from, address & -largePage(address)));
        long last = end - 1;
        long after = Math.min(mapping.end, Math.max(to, (last & -largePage(last)) + largePage(last)));
        invalidate(first, after, () -> {
            if ((address & -largePage(address)) < first || (last & -largePage(last)) + largePage(last) > after) {
                releaseWithin(mapping, address, end, first, after);
            } else {
                release(mapping, mapping.page(address), mapping.page(end));
            }
        });
    }

    /// Bytes of the page by which the process has `address` mapped.
    private long largePage(long address) {
        return PAGE << (9 * (mappingLevel(address) - 1));
    }

    @Override public void protect(long address, boolean writable) {
        var mapping = mappings.get(address);
        require(mapping != null, "no mapping starts at 0x" + Long.toHexString(address));
        invalidate(mapping.start, mapping.end, () -> mapping.writable = writable);
    }

    private void invalidate(long start, long end, Runnable change) {
        for (int i = 0; i < listeners.size(); i++) {
            listeners.get(i).beginInvalidation(start, end);
        }
        try {
            change.run();
        } finally {
            for (int i = 0; i < listeners.size(); i++) {
                listeners.get(i).endInvalidation(start, end);
            }
        }
    }

    /// A guest_memfd takes its pages `[first, end)` away: mappings of them lose their pages.
    void unmapGuestPages(GuestMemFile file, long first, long end) {
        for (var mapping : mappings.values()) {
            if (mapping.backing instanceof Mapping.Guest guest && guest.file() == file) {
                long from = Math.max(0, first - guest.firstPage());
                long to = Math.min(mapping.page(mapping.end), end - guest.firstPage());
                if (from < to) {
                    invalidate(mapping.start + (from << PhysicalMemory.FRAME_SHIFT), mapping.start + (to << PhysicalMemory.FRAME_SHIFT),
                            () -> { });
                }
            }
        }
    }

    private void release(Mapping mapping, long first, long end) {
        // The pages of files and devices stay where they are.
        if (mapping.backing instanceof Mapping.Anonymous own) {
            own.table().release(first, end, frames);
        }
    }

    @Override public boolean clearAccessed(long start, long end) {
        boolean accessed = false;
        for (int i = 0; i < listeners.size(); i++) {
            accessed |= listeners.get(i).clearAccessed(start, end);
        }
        return accessed;
    }

    private Mapping find(long address) {
        var hit = last;
        if (hit != null && address >= hit.start && address < hit.end) {
            return hit;
        }
        var entry = mappings.floorEntry(address);
        if (entry == null || address >= entry.getValue().end) {
            return null;
        }
        last = entry.getValue();
        return last;
    }

    private Mapping mustFind(long address) {
        var mapping = find(address);
        if (mapping == null) {
            throw fault(address);
        }
        return mapping;
    }

    private static KvmException fault(long address) {
        return new KvmException(Errno.EFAULT, "no memory at 0x" + Long.toHexString(address));
    }

    // --- pages

    /// The page behind `address`, given a frame when it has none. [LINUX __kvm_faultin_pfn]
    ///
    /// @param write whether it must be writable
    /// @return the physical address of the page with [#WRITABLE] and [#HOST_MMIO], or [#NO_MAPPING] or [#NO_MEMORY]
    public long pin(long address, boolean write) {
        var mapping = find(address);
        if (mapping == null || (write && !mapping.writable)) {
            return NO_MAPPING;
        }
        long bits = mapping.writable ? WRITABLE : 0;
        long page = mapping.page(address);
        return switch (mapping.backing) {
            case Mapping.Anonymous own -> withBits(populate(own, page), bits);
            case Mapping.Shared shared -> withBits(populate(shared.file().table(), shared.firstPage() + page), bits);
            case Mapping.Guest guest -> withBits(guest.file().userFault(guest.firstPage() + page), bits);
            case Mapping.Device device -> (device.pa() + (page << PhysicalMemory.FRAME_SHIFT)) | bits | HOST_MMIO;
        };
    }

    /// The physical address of the page behind `address` when it has a frame and may be written, else [#NO_MAPPING]. [LINUX
    /// get_user_pages_fast_only]
    public long present(long address) {
        var mapping = find(address);
        if (mapping == null || !mapping.writable) {
            return NO_MAPPING;
        }
        long page = mapping.page(address);
        long pa = switch (mapping.backing) {
            case Mapping.Anonymous own -> own.table().pa(page);
            case Mapping.Shared shared -> shared.file().table().pa(shared.firstPage() + page);
            case Mapping.Guest guest -> NO_MAPPING;
            case Mapping.Device device -> NO_MAPPING;
        };
        return pa < 0 ? NO_MAPPING : pa;
    }

    private static long withBits(long pa, long bits) {
        return pa < 0 ? pa : pa | bits;
    }

    private long populate(Mapping.Anonymous own, long page) {
        if (own.hugeLevel() > 1 && own.table().pa(page) < 0) {
            long pa = frames.allocateHuge();
            if (pa < 0) {
                return NO_MEMORY;
            }
            long first = page & -(GIB / PAGE);
            for (long at = 0; at < GIB / PAGE; at += FrameTable.PAGES_PER_BLOCK) {
                own.table().setBlock(first + at, pa + (at << PhysicalMemory.FRAME_SHIFT));
            }
        }
        return populate(own.table(), page);
    }

    private long populate(FrameTable table, long page) {
        long pa = table.pa(page);
        if (pa >= 0) {
            return pa;
        }
        if (table.canBeBlock(page)) {
            long block = frames.allocateBlock();
            if (block >= 0) {
                table.setBlock(page, block);
                return table.pa(page);
            }
        }
        try {
            table.set(page, frames.allocate());
        } catch (KvmException none) {
            return NO_MEMORY;
        }
        return table.pa(page);
    }

    /// The largest page, 1 to 3, by which the process has `address` mapped. [LINUX host_pfn_mapping_level]
    public int mappingLevel(long address) {
        var mapping = find(address);
        if (mapping == null) {
            return 1;
        }
        long page = mapping.page(address);
        return switch (mapping.backing) {
            case Mapping.Anonymous own -> !own.table().isBlock(page) ? 1 : own.hugeLevel() > 1 ? own.hugeLevel() : 2;
            case Mapping.Shared shared -> shared.firstPage() % FrameTable.PAGES_PER_BLOCK == 0
                    && shared.file().table().isBlock(shared.firstPage() + page) ? 2 : 1;
            case Mapping.Guest guest -> 1;
            case Mapping.Device device -> 1;
        };
    }

    /// The physical address of the byte at `address`, for a page that the kernel uses itself.
    ///
    /// @throws KvmException EFAULT, ENOMEM
    public long fault(long address, boolean write) {
        long pa = pin(address, write);
        if (pa < 0) {
            throw pa == NO_MEMORY ? new KvmException(Errno.ENOMEM, "no free platform memory; give the platform more") : fault(address);
        }
        return (pa & -PAGE) | (address & (PAGE - 1));
    }

    // --- the VMM's own accesses

    /// Whether an access at `address` would succeed, want of memory aside.
    public boolean allows(long address, boolean write) {
        var mapping = find(address);
        return mapping != null && (mapping.writable || !write)
                && !(mapping.backing instanceof Mapping.Guest guest && !guest.file().isInitShared());
    }

    /// The frame behind `address`, or -1: none yet, or no mapping.
    public long frameAt(long address) {
        var mapping = find(address);
        if (mapping == null) {
            return -1;
        }
        long page = mapping.page(address);
        return switch (mapping.backing) {
            case Mapping.Anonymous own -> own.table().pa(page);
            case Mapping.Shared shared -> shared.file().table().pa(shared.firstPage() + page);
            case Mapping.Guest guest -> guest.file().frameOf(guest.firstPage() + page);
            case Mapping.Device device -> device.pa() + (page << PhysicalMemory.FRAME_SHIFT);
        };
    }

    /// Where a read finds its page: -1 for one that was never written.
    private long readable(long address) {
        var mapping = mustFind(address);
        long page = mapping.page(address);
        long pa = switch (mapping.backing) {
            case Mapping.Anonymous own -> own.table().pa(page);
            case Mapping.Shared shared -> shared.file().table().pa(shared.firstPage() + page);
            case Mapping.Guest guest -> fault(address, false);
            case Mapping.Device device -> device.pa() + (page << PhysicalMemory.FRAME_SHIFT);
        };
        return pa < 0 ? -1 : (pa & -PAGE) | (address & (PAGE - 1));
    }

    @Override public long read(long address, int bytes) {
        if ((address & (PAGE - 1)) + bytes > PAGE) {
            long value = 0;
            for (int i = 0; i < bytes; i++) {
                value |= read(address + i, 1) << (8 * i);
            }
            return value;
        }
        long pa = readable(address);
        return pa < 0 ? 0 : memory.read(pa, bytes);
    }

    @Override public void write(long address, int bytes, long value) {
        if ((address & (PAGE - 1)) + bytes > PAGE) {
            for (int i = 0; i < bytes; i++) {
                write(address + i, 1, value >>> (8 * i));
            }
            return;
        }
        memory.write(fault(address, true), bytes, value);
    }

    @Override public void read(long address, byte[] target, int offset, int length) {
        for (int done = 0; done < length;) {
            long at = address + done;
            int chunk = (int) Math.min(length - done, PAGE - (at & (PAGE - 1)));
            long pa = readable(at);
            if (pa < 0) {
                Arrays.fill(target, offset + done, offset + done + chunk, (byte) 0);
            } else {
                memory.read(pa, target, offset + done, chunk);
            }
            done += chunk;
        }
    }

    @Override public void write(long address, byte[] source, int offset, int length) {
        for (int done = 0; done < length;) {
            long at = address + done;
            int chunk = (int) Math.min(length - done, PAGE - (at & (PAGE - 1)));
            memory.write(fault(at, true), source, offset + done, chunk);
            done += chunk;
        }
    }

    @Override public long residentPages() {
        long pages = 0;
        for (var mapping : mappings.values()) {
            if (mapping.backing instanceof Mapping.Anonymous own) {
                pages += own.table().resident();
            }
        }
        return pages;
    }
}
