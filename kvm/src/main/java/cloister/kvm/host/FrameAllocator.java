package cloister.kvm.host;

import cloister.kvm.KvmException;
import cloister.kvm.KvmInspection;
import cloister.memory.HostMemory;
import cloister.memory.PhysicalMemory;
import cloister.spec.kvm.Errno;
import java.util.HashSet;
import java.util.Set;

/// The host's page allocator over one range of platform memory. Hands out zeroed frames, singly or as 2 MiB blocks.
///
/// Frames that were never used are zero already and are not touched, so a large guest costs nothing until it writes.
public final class FrameAllocator {
    /// What [#allocateBlock] gives.
    public static final long BLOCK_SIZE = 2L << 20;
    private static final long HUGE_SIZE = 1L << 30;
    private final HostMemory memory;
    private final Set<Long> quarantined = new HashSet<>();
    private final long start;
    private final long end;
    private long next;
    private long blockNext;
    private long blockEnd;
    private final FreeFrames free;
    private long allocated;
    private KvmInspection.FreeObserver freeObserver = (pa, count) -> { };

    /// @param startPa first byte of the range, page-aligned
    /// @param endPa   end of the range, page-aligned
    public FrameAllocator(HostMemory memory, long startPa, long endPa) {
        if (startPa % PhysicalMemory.FRAME_SIZE != 0 || endPa % PhysicalMemory.FRAME_SIZE != 0 || endPa > memory.size()) {
            throw new IllegalArgumentException("bad frame range");
        }
        this.memory = memory;
        this.start = startPa;
        this.next = startPa;
        this.end = endPa;
        this.free = new FreeFrames(endPa);
    }

    /// Frames handed out and not freed.
    public long allocatedFrames() {
        return allocated;
    }

    /// The first byte of the range.
    public long startPa() {
        return start;
    }

    /// The first byte after the range.
    public long endPa() {
        return end;
    }

    /// A zeroed frame.
    ///
    /// @return its physical address
    /// @throws KvmException ENOMEM
    public long allocate() {
        allocated++;
        long freed = free.takeFrame();
        if (freed >= 0) {
            return zeroed(freed, PhysicalMemory.FRAME_SIZE);
        }
        if (blockNext == blockEnd) {
            refill();
        }
        long pa = blockNext;
        blockNext += PhysicalMemory.FRAME_SIZE;
        return pa;
    }

    /// So many zeroed frames, or none.
    ///
    /// @return their physical addresses
    /// @throws KvmException ENOMEM
    public long[] allocate(int count) {
        var pages = new long[count];
        for (int i = 0; i < count; i++) {
            try {
                pages[i] = allocate();
            } catch (KvmException none) {
                for (int j = 0; j < i; j++) {
                    free(pages[j]);
                }
                throw none;
            }
        }
        return pages;
    }

    private void refill() {
        long block = takeBlock();
        if (block >= 0) {
            blockNext = block;
            blockEnd = block + BLOCK_SIZE;
        } else if (next < end) {
            blockNext = next;
            next = Math.min(end, (next & -BLOCK_SIZE) + BLOCK_SIZE);
            blockEnd = next;
        } else {
            allocated--;
            throw new KvmException(Errno.ENOMEM, "no free platform memory; give the platform more");
        }
    }

    /// A zeroed, aligned block of 2 MiB.
    ///
    /// @return its physical address, or -1 when there is none
    public long allocateBlock() {
        long pa = takeBlock();
        if (pa >= 0) {
            allocated += BLOCK_SIZE / PhysicalMemory.FRAME_SIZE;
        }
        return pa;
    }

    private long takeBlock() {
        long freed = free.takeBlock();
        if (freed >= 0) {
            return zeroed(freed, BLOCK_SIZE);
        }
        long pa = alignTo(BLOCK_SIZE);
        if (pa < 0 || pa + BLOCK_SIZE > end) {
            return -1;
        }
        next = pa + BLOCK_SIZE;
        return pa;
    }

    /// A zeroed, aligned page of 1 GiB.
    ///
    /// @return its physical address, or -1 when there is none
    public long allocateHuge() {
        long pa = (next + HUGE_SIZE - 1) & -HUGE_SIZE;
        if (pa + HUGE_SIZE > end) {
            return -1;
        }
        alignTo(HUGE_SIZE);
        next = pa + HUGE_SIZE;
        allocated += HUGE_SIZE / PhysicalMemory.FRAME_SIZE;
        return pa;
    }

    /// Keeps a frame from ever being handed out again, because the TDX module did not give it back. It stays allocated.
    public void quarantine(long pa) {
        quarantined.add(pa);
    }

    /// Frames that were quarantined.
    public int quarantinedFrames() {
        return quarantined.size();
    }

    /// A zeroed physically contiguous region that is never freed; for boot-time structures.
    ///
    /// @param alignment a power of two, at least 4096
    /// @throws KvmException ENOMEM
    public long allocateContiguous(long bytes, long alignment) {
        long pa = alignTo(alignment);
        long size = (bytes + PhysicalMemory.FRAME_SIZE - 1) & -PhysicalMemory.FRAME_SIZE;
        if (pa < 0 || pa + size > end) {
            throw new KvmException(Errno.ENOMEM, "no contiguous platform memory");
        }
        next = pa + size;
        return pa;
    }

    private long alignTo(long alignment) {
        long pa = (next + alignment - 1) & -alignment;
        if (pa >= end) {
            return -1;
        }
        while (next < pa) { // the gap serves single frames
            free.putFrame(next);
            next += PhysicalMemory.FRAME_SIZE;
        }
        return pa;
    }

    /// Takes a frame back. The last one of 2 MiB makes them a block again.
    ///
    /// @throws IllegalStateException when it is free already
    public void free(long pa) {
        if (!quarantined.isEmpty() && quarantined.contains(pa)) {
            return;
        }
        freeObserver.freed(pa, 1);
        allocated--;
        free.putFrame(pa);
    }

    /// Takes a whole block back.
    public void freeBlock(long pa) {
        freeObserver.freed(pa, BLOCK_SIZE / PhysicalMemory.FRAME_SIZE);
        allocated -= BLOCK_SIZE / PhysicalMemory.FRAME_SIZE;
        free.putBlock(pa);
    }

    /// Whether a frame of the range is not handed out.
    public boolean isFree(long pa) {
        return pa >= next || (pa >= blockNext && pa < blockEnd) || free.has(pa);
    }

    /// As [KvmInspection#onFree].
    public void onFree(KvmInspection.FreeObserver observer) {
        freeObserver = observer == null ? (pa, count) -> { } : observer;
    }

    private long zeroed(long pa, long length) {
        memory.fill(pa, length, (byte) 0);
        return pa;
    }
}
