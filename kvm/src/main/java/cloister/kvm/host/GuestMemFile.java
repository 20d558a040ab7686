package cloister.kvm.host;

import cloister.kvm.GuestMemfd;
import cloister.kvm.KvmException;
import cloister.memory.PhysicalMemory;
import cloister.spec.kvm.Errno;

/// A guest_memfd inode: its frames, and the slot bindings that must be zapped before a frame goes.
public final class GuestMemFile implements GuestMemfd {
    private static final long PAGE = PhysicalMemory.FRAME_SIZE;

    /// Told before pages of the file go away; `first` and `end` are page indexes.
    @FunctionalInterface
    public interface Invalidator {
        /// Unmaps the range from the guest. Returns when no guest can reach the pages any more.
        void invalidate(GuestMemFile file, long first, long end);
    }

    private final FrameAllocator frames;
    private final Invalidator invalidator;
    private final long size;
    private final int[] frame;
    private long allocated;

    /// An empty file of `size` bytes.
    public GuestMemFile(FrameAllocator frames, long size, Invalidator invalidator) {
        this.frames = frames;
        this.size = size;
        this.invalidator = invalidator;
        this.frame = new int[Math.toIntExact(size / PAGE)];
    }

    @Override public long size() {
        return size;
    }

    @Override public long allocatedPages() {
        return allocated;
    }

    /// The frame of page `index`, allocated when absent. [LINUX kvm_gmem_get_pfn]
    ///
    /// @return its physical address
    public long fault(long index) {
        int i = Math.toIntExact(index);
        if (frame[i] == 0) {
            frame[i] = (int) (frames.allocate() >> PhysicalMemory.FRAME_SHIFT) + 1;
            allocated++;
        }
        return (long) (frame[i] - 1) << PhysicalMemory.FRAME_SHIFT;
    }

    @Override public void punchHole(long offset, long length) {
        if ((offset | length) % PAGE != 0 || offset < 0 || length <= 0 || offset + length > size) {
            throw new KvmException(Errno.EINVAL, "hole is not whole pages of the file");
        }
        release(offset / PAGE, (offset + length) / PAGE);
    }

    /// Releases the inode: everything is zapped and freed.
    public void close() {
        release(0, frame.length);
    }

    /// Keeps the frame of page `index` from ever being used again, because the TDX module did not give it back.
    public void leak(long index) {
        int i = Math.toIntExact(index);
        if (frame[i] != 0) {
            frame[i] = 0;
            allocated--;
        }
    }

    private void release(long first, long end) {
        if (allocated == 0) {
            return;
        }
        invalidator.invalidate(this, first, end);
        for (int i = (int) first; i < end; i++) {
            if (frame[i] != 0) {
                frames.free((long) (frame[i] - 1) << PhysicalMemory.FRAME_SHIFT);
                frame[i] = 0;
                allocated--;
            }
        }
    }
}
