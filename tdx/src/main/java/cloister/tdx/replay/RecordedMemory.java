package cloister.tdx.replay;

import cloister.memory.PhysicalMemory;
import cloister.memory.WriteListener;
import java.util.BitSet;

/// Physical memory that is powered on again and again. Thousands of cases start with an empty memory and touch little of it:
/// what was written is remembered and cleared, which costs a tenth of reserving the memory anew.
///
/// The recording platform does not encrypt: every KeyID reads what is there. [VECTORS "Limits"]
public final class RecordedMemory implements AutoCloseable {
    private final PhysicalMemory memory;
    private final BitSet written = new BitSet();

    /// The physical memory of a platform.
    public RecordedMemory(VectorPlatform platform) {
        long bytes = platform.memoryBytes;
        memory = PhysicalMemory.unencrypted(bytes, platform.firstPrivateKeyId);
        memory.addWriteListener(new WriteListener() {
            @Override public void written(long pa, long length) {
                written.set((int) (pa >> PhysicalMemory.FRAME_SHIFT), (int) ((pa + length - 1) >> PhysicalMemory.FRAME_SHIFT) + 1);
            }

            @Override public void watchStarted(long frame) {
            }
        });
        for (long frame = 0; frame < bytes >> PhysicalMemory.FRAME_SHIFT; frame++) {
            memory.watch(frame, true);
        }
    }

    /// The memory as it is at power-on.
    public PhysicalMemory powerOn() {
        for (int from = written.nextSetBit(0); from >= 0;) {
            int to = written.nextClearBit(from);
            memory.powerCycle(from, to - from);
            from = written.nextSetBit(to);
        }
        written.clear();
        return memory;
    }

    @Override public void close() {
        memory.close();
    }
}
