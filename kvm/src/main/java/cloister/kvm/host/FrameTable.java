package cloister.kvm.host;

import cloister.memory.PhysicalMemory;
import java.util.List;
import java.util.TreeMap;

/// Which frame is behind each page of a range: sparse, and one word for 2 MiB that are one physical block. A range costs what is used of
/// it, however large it is.
final class FrameTable {
    static final int PAGES_PER_BLOCK = (int) (FrameAllocator.BLOCK_SIZE / PhysicalMemory.FRAME_SIZE);
    /// Of so many chunks, 128 GiB, the first ones are found by their number; those behind are searched.
    private static final int NEAR_CHUNKS = 1 << 16;

    /// 2 MiB of the range.
    private static final class Chunk {
        /// Frame number plus one of the first page when the chunk is one block, else 0.
        int block;
        /// Frame number plus one for each page, 0 when absent; null when the chunk is a block.
        int[] pages;

        Chunk(int block) {
            this.block = block;
            this.pages = block == 0 ? new int[PAGES_PER_BLOCK] : null;
        }

        int frame(int at) {
            return block != 0 ? block + at : pages[at];
        }

        /// A block becomes single frames.
        void split() {
            pages = new int[PAGES_PER_BLOCK];
            for (int i = 0; i < PAGES_PER_BLOCK; i++) {
                pages[i] = block + i;
            }
            block = 0;
        }
    }

    private final Chunk[] near;
    private final TreeMap<Long, Chunk> far = new TreeMap<>();
    private final long pages;
    private long resident;

    FrameTable(long pages) {
        this.pages = pages;
        this.near = new Chunk[(int) Math.min((pages + PAGES_PER_BLOCK - 1) / PAGES_PER_BLOCK, NEAR_CHUNKS)];
    }

    /// Pages of the range.
    long pages() {
        return pages;
    }

    /// Pages that have a frame.
    long resident() {
        return resident;
    }

    private Chunk chunk(long number) {
        return number < near.length ? near[(int) number] : far.get(number);
    }

    /// @param chunk null for none
    private void chunk(long number, Chunk chunk) {
        if (number < near.length) {
            near[(int) number] = chunk;
        } else if (chunk == null) {
            far.remove(number);
        } else {
            far.put(number, chunk);
        }
    }

    /// The frame's physical address, or -1.
    long pa(long page) {
        var chunk = chunk(page / PAGES_PER_BLOCK);
        int frame = chunk == null ? 0 : chunk.frame((int) page & (PAGES_PER_BLOCK - 1));
        return frame == 0 ? -1 : (long) (frame - 1) << PhysicalMemory.FRAME_SHIFT;
    }

    /// Whether the 2 MiB around `page` are one block.
    boolean isBlock(long page) {
        var chunk = chunk(page / PAGES_PER_BLOCK);
        return chunk != null && chunk.block != 0;
    }

    /// Whether the 2 MiB around `page` lie in the range and have no frames.
    boolean canBeBlock(long page) {
        long number = page / PAGES_PER_BLOCK;
        return chunk(number) == null && (number + 1) * PAGES_PER_BLOCK <= pages;
    }

    void setBlock(long page, long pa) {
        chunk(page / PAGES_PER_BLOCK, new Chunk(frame(pa)));
        resident += PAGES_PER_BLOCK;
    }

    void set(long page, long pa) {
        long number = page / PAGES_PER_BLOCK;
        var chunk = chunk(number);
        if (chunk == null) {
            chunk = new Chunk(0);
            chunk(number, chunk);
        }
        chunk.pages[(int) page & (PAGES_PER_BLOCK - 1)] = frame(pa);
        resident++;
    }

    private static int frame(long pa) {
        return (int) (pa >>> PhysicalMemory.FRAME_SHIFT) + 1;
    }

    /// Takes the frames of pages `[first, end)` out and gives them back to `frames`.
    void release(long first, long end, FrameAllocator frames) {
        if (first >= end) {
            return;
        }
        long lastNumber = (end - 1) / PAGES_PER_BLOCK;
        for (long number = first / PAGES_PER_BLOCK; number <= lastNumber && number < near.length && resident != 0; number++) {
            release(number, first, end, frames);
        }
        for (long number : List.copyOf(far.subMap(first / PAGES_PER_BLOCK, true, lastNumber, true).keySet())) {
            release(number, first, end, frames);
        }
    }

    /// Takes out what lies in chunk `number` of pages `[first, end)`.
    private void release(long number, long first, long end, FrameAllocator frames) {
        var chunk = chunk(number);
        if (chunk == null) {
            return;
        }
        int from = (int) Math.max(first - (number * PAGES_PER_BLOCK), 0);
        int to = (int) Math.min(end - (number * PAGES_PER_BLOCK), PAGES_PER_BLOCK);
        boolean all = from == 0 && to == PAGES_PER_BLOCK;
        if (all && chunk.block != 0) {
            frames.freeBlock((long) (chunk.block - 1) << PhysicalMemory.FRAME_SHIFT);
            resident -= PAGES_PER_BLOCK;
        } else {
            if (chunk.block != 0) {
                chunk.split();
            }
            releasePages(chunk.pages, from, to, frames);
        }
        if (all) {
            chunk(number, null);
        }
    }

    private void releasePages(int[] chunk, int from, int to, FrameAllocator frames) {
        for (int at = from; at < to; at++) {
            if (chunk[at] != 0) {
                frames.free((long) (chunk[at] - 1) << PhysicalMemory.FRAME_SHIFT);
                chunk[at] = 0;
                resident--;
            }
        }
    }
}
