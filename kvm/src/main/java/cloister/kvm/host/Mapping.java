package cloister.kvm.host;

import cloister.memory.PhysicalMemory;

/// A stretch of the VMM's address space. [LINUX struct vm_area_struct]
final class Mapping {
    /// What is behind a mapping.
    sealed interface Backing {
    }

    /// Frames of the mapping's own, given when first touched; aligned 2 MiB at once where they can be.
    ///
    /// @param hugeLevel 1; or 3 for a mapping of 1 GiB pages
    record Anonymous(FrameTable table, int hugeLevel) implements Backing {
    }

    /// Pages of a file from page `firstPage`.
    record Shared(HostFile file, long firstPage) implements Backing {
    }

    /// Pages of a guest_memfd that can be mapped.
    record Guest(GuestMemFile file, long firstPage) implements Backing {
    }

    /// Physical addresses of a device from `pa`.
    record Device(long pa) implements Backing {
    }

    final long start;
    final long end;
    final Backing backing;
    boolean writable = true;

    Mapping(long start, long size, Backing backing) {
        this.start = start;
        this.end = start + size;
        this.backing = backing;
    }

    /// Whether it has pages of 1 GiB, which come and go whole.
    boolean hasHugePages() {
        return backing instanceof Anonymous own && own.hugeLevel() > 1;
    }

    long page(long address) {
        return (address - start) >>> PhysicalMemory.FRAME_SHIFT;
    }
}
