package cloister.kvm.host;

import cloister.memory.PhysicalMemory;
import java.util.Arrays;

/// The frames that a [FrameAllocator] got back: whole blocks of 2 MiB as a stack, single frames as one bit each. 512 free frames that
/// are one block become one, so what a guest of any size gives back costs next to no heap.
final class FreeFrames {
    private static final int BLOCK_SHIFT = Long.numberOfTrailingZeros(FrameAllocator.BLOCK_SIZE);
    private static final int FRAMES = 1 << (BLOCK_SHIFT - PhysicalMemory.FRAME_SHIFT);
    private static final int NONE = -1;

    /// By block: its free frames, a bit each; null where there is none, and where the block is free as a whole.
    private final long[][] frames;
    private final short[] counts;
    /// Which blocks are free as a whole.
    private final boolean[] whole;
    /// The blocks with free frames are a list, the one that last got its first frame being the head.
    private final int[] nexts;
    private final int[] previouses;
    private int head = NONE;
    private int[] blocks = new int[16];
    private int blockCount;

    FreeFrames(long endPa) {
        int length = Math.toIntExact((endPa + FrameAllocator.BLOCK_SIZE - 1) >>> BLOCK_SHIFT);
        this.frames = new long[length][];
        this.counts = new short[length];
        this.whole = new boolean[length];
        this.nexts = new int[length];
        this.previouses = new int[length];
    }

    /// The address of a frame that was free and is not any more; -1 when only blocks are free, or nothing.
    long takeFrame() {
        if (head == NONE) {
            return -1;
        }
        int block = head;
        long[] words = frames[block];
        int word = 0;
        while (words[word] == 0) {
            word++;
        }
        int bit = Long.numberOfTrailingZeros(words[word]);
        words[word] &= words[word] - 1;
        if (--counts[block] == 0) {
            unlink(block);
        }
        return ((long) block << BLOCK_SHIFT) + ((long) (word * Long.SIZE + bit) << PhysicalMemory.FRAME_SHIFT);
    }

    /// The address of a block that was free and is not any more; -1 when there is none.
    long takeBlock() {
        if (blockCount == 0) {
            return -1;
        }
        int block = blocks[--blockCount];
        whole[block] = false;
        return (long) block << BLOCK_SHIFT;
    }

    /// Whether the frame at `pa` is free.
    boolean has(long pa) {
        int block = (int) (pa >>> BLOCK_SHIFT);
        if (frames[block] != null) {
            int frame = (int) (pa >>> PhysicalMemory.FRAME_SHIFT) & (FRAMES - 1);
            return (frames[block][frame / Long.SIZE] & (1L << frame)) != 0;
        }
        return whole[block];
    }

    void putFrame(long pa) {
        int block = (int) (pa >>> BLOCK_SHIFT);
        if (frames[block] == null) {
            link(block);
        }
        int frame = (int) (pa >>> PhysicalMemory.FRAME_SHIFT) & (FRAMES - 1);
        long bit = 1L << frame; // modulo 64
        long[] words = frames[block];
        if ((words[frame / Long.SIZE] & bit) != 0) {
            throw new IllegalStateException("frame 0x" + Long.toHexString(pa) + " is freed twice");
        }
        words[frame / Long.SIZE] |= bit;
        if (++counts[block] == FRAMES) {
            counts[block] = 0;
            unlink(block);
            putBlock(pa & -FrameAllocator.BLOCK_SIZE);
        }
    }

    void putBlock(long pa) {
        if (blockCount == blocks.length) {
            blocks = Arrays.copyOf(blocks, blockCount * 2);
        }
        int block = (int) (pa >>> BLOCK_SHIFT);
        whole[block] = true;
        blocks[blockCount++] = block;
    }

    private void link(int block) {
        frames[block] = new long[FRAMES / Long.SIZE];
        nexts[block] = head;
        previouses[block] = NONE;
        if (head != NONE) {
            previouses[head] = block;
        }
        head = block;
    }

    private void unlink(int block) {
        frames[block] = null;
        if (previouses[block] == NONE) {
            head = nexts[block];
        } else {
            nexts[previouses[block]] = nexts[block];
        }
        if (nexts[block] != NONE) {
            previouses[nexts[block]] = previouses[block];
        }
    }
}
