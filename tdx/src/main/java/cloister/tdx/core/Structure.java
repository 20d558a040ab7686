package cloister.tdx.core;

import cloister.memory.PhysicalMemory;

/// A control structure in private memory: one or more pages that need not be adjacent, addressed as one range of
/// offsets. Values do not cross pages.
class Structure {
    final PhysicalMemory memory;
    /// Page addresses with the KeyID that owns them.
    final long[] pages;

    Structure(PhysicalMemory memory, long... pages) {
        this.memory = memory;
        this.pages = pages;
    }

    final long at(int offset) {
        return pages[offset >>> 12] + (offset & 0xfff);
    }

    final int u8(int offset) {
        return (int) memory.read(at(offset), 1);
    }

    final int u16(int offset) {
        return (int) memory.read(at(offset), 2);
    }

    final int u32(int offset) {
        return (int) memory.read(at(offset), 4);
    }

    final long u64(int offset) {
        return memory.read(at(offset), 8);
    }

    final boolean flag(int offset) {
        return u8(offset) != 0;
    }

    final void u8(int offset, int value) {
        memory.write(at(offset), 1, value);
    }

    final void u16(int offset, int value) {
        memory.write(at(offset), 2, value);
    }

    final void u32(int offset, int value) {
        memory.write(at(offset), 4, value);
    }

    final void u64(int offset, long value) {
        memory.write(at(offset), 8, value);
    }

    final void flag(int offset, boolean value) {
        u8(offset, value ? 1 : 0);
    }

    final long read(int offset, int bytes) {
        return memory.read(at(offset), bytes);
    }

    final void write(int offset, int bytes, long value) {
        memory.write(at(offset), bytes, value);
    }

    final byte[] bytes(int offset, int length) {
        var result = new byte[length];
        memory.read(at(offset), result, 0, length);
        return result;
    }

    final void bytes(int offset, byte[] value) {
        memory.write(at(offset), value, 0, value.length);
    }

    final LockWord lock(int offset) {
        return new LockWord.InMemory(memory, at(offset));
    }
}
