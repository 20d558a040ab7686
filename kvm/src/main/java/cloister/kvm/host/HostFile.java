package cloister.kvm.host;

import cloister.kvm.SharedFile;
import cloister.memory.PhysicalMemory;

/// A file in memory that mappings share, as memfd_create makes one.
final class HostFile implements SharedFile {
    private final FrameAllocator frames;
    private final FrameTable table;

    HostFile(FrameAllocator frames, long size) {
        this.frames = frames;
        this.table = new FrameTable(size / PhysicalMemory.FRAME_SIZE);
    }

    @Override public long size() {
        return table.pages() * PhysicalMemory.FRAME_SIZE;
    }

    FrameTable table() {
        return table;
    }

    @Override public void close() {
        table.release(0, table.pages(), frames);
    }
}
