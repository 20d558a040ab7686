package cloister.kvm.host;

import cloister.memory.PhysicalMemory;

/// Which frame is behind each page of a range: sparse, and one word for 2 MiB that are one physical block.
final class FrameTable {
    static final int PAGES_PER_BLOCK = (int) (FrameAllocator.BLOCK_SIZE / PhysicalMemory.FRAME_SIZE);

    /// Frame number plus one for each page of a chunk, 0 when absent; the chunk is null when it has no frames or is a block.
    private final int[][] chunks;
    /// Frame number plus one of the first page when the chunk is one block, else 0.
    private final int[] blocks;
    private final long pages;
    private long resident;

    FrameTable(long pages) {
        this.pages = pages;
        int length = Math.toIntExact((pages + PAGES_PER_BLOCK - 1) / PAGES_PER_BLOCK);
        this.chunks = new int[length][];
        this.blocks = new int[length];
    }

    /// Pages of the range.
    long pages() {
        return pages;
    }

    /// Pages that have a frame.
    long resident() {
        return resident;
    }

    /// The frame's physical address, or -1.
    long pa(long page) {
        int chunk = (int) (page / PAGES_PER_BLOCK);
        int at = (int) page & (PAGES_PER_BLOCK - 1);
        int frame = blocks[chunk] != 0 ? blocks[chunk] + at : chunks[chunk] != null ? chunks[chunk][at] : 0;
        return frame == 0 ? -1 : (long) (frame - 1) << PhysicalMemory.FRAME_SHIFT;
    }

    /// Whether the 2 MiB around `page` are one block.
    boolean isBlock(long page) {
        return blocks[(int) (page / PAGES_PER_BLOCK)] != 0;
    }

    /// Whether the 2 MiB around `page` lie in the range and have no frames.
    boolean canBeBlock(long page) {
        int chunk = (int) (page / PAGES_PER_BLOCK);
        return blocks[chunk] == 0 && chunks[chunk] == null && (long) (chunk + 1) * PAGES_PER_BLOCK <= pages;
    }

    void setBlock(long page, long pa) {
        blocks[(int) (page / PAGES_PER_BLOCK)] = (int) (pa >>> PhysicalMemory.FRAME_SHIFT) + 1;
        resident += PAGES_PER_BLOCK;
    }

    void set(long page, long pa) {
        int chunk = (int) (page / PAGES_PER_BLOCK);
        if (chunks[chunk] == null) {
            chunks[chunk] = new int[PAGES_PER_BLOCK];
        }
        chunks[chunk][(int) page & (PAGES_PER_BLOCK - 1)] = (int) (pa >>> PhysicalMemory.FRAME_SHIFT) + 1;
        resident++;
    }

    /// Takes the frames of pages `[first, end)` out and gives them back to `frames`.
    void release(long first, long end, FrameAllocator frames) {
        for (long page = first; page < end && resident != 0;) {
            int chunk = (int) (page / PAGES_PER_BLOCK);
            long chunkEnd = (long) (chunk + 1) * PAGES_PER_BLOCK;
            if (blocks[chunk] != 0) {
                if (page == chunkEnd - PAGES_PER_BLOCK && end >= chunkEnd) {
                    frames.freeBlock((long) (blocks[chunk] - 1) << PhysicalMemory.FRAME_SHIFT);
                    blocks[chunk] = 0;
                    resident -= PAGES_PER_BLOCK;
                    page = chunkEnd;
                    continue;
                }
                split(chunk);
            }
            if (chunks[chunk] == null) {
                page = chunkEnd;
                continue;
            }
            long stop = Math.min(end, chunkEnd);
            releasePages(chunks[chunk], page, stop, frames);
            if (page == chunkEnd - PAGES_PER_BLOCK && stop == chunkEnd) {
                chunks[chunk] = null;
            }
            page = stop;
        }
    }

    private void releasePages(int[] chunk, long first, long end, FrameAllocator frames) {
        for (long page = first; page < end; page++) {
            int at = (int) page & (PAGES_PER_BLOCK - 1);
            if (chunk[at] != 0) {
                frames.free((long) (chunk[at] - 1) << PhysicalMemory.FRAME_SHIFT);
                chunk[at] = 0;
                resident--;
            }
        }
    }

    /// A block becomes single frames.
    private void split(int chunk) {
        chunks[chunk] = new int[PAGES_PER_BLOCK];
        for (int i = 0; i < PAGES_PER_BLOCK; i++) {
            chunks[chunk][i] = blocks[chunk] + i;
        }
        blocks[chunk] = 0;
    }
}
