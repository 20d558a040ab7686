package cloister.tdx.core;

import cloister.memory.PhysicalMemory;

/// A control structure in private memory: one or more pages that need not be adjacent, addressed as one range of
/// offsets. Values do not cross pages.
public class Structure {
    public final PhysicalMemory memory;
    /// Page addresses with the KeyID that owns them.
    public final long[] pages;

    public Structure(PhysicalMemory memory, long... pages) {
        this.memory = memory;
        this.pages = pages;
    }

    /// A copy of `length` bytes of memory.
    public static byte[] copy(PhysicalMemory memory, long hpa, int length) {
        var result = new byte[length];
        memory.read(hpa, result, 0, length);
        return result;
    }

    public final long at(int offset) {
        return pages[offset >>> 12] + (offset & 0xfff);
    }

    public final int u8(int offset) {
        return (int) memory.read(at(offset), 1);
    }

    public final int u16(int offset) {
        return (int) memory.read(at(offset), 2);
    }

    public final int u32(int offset) {
        return (int) memory.read(at(offset), 4);
    }

    public final long u64(int offset) {
        return memory.read(at(offset), 8);
    }

    public final boolean flag(int offset) {
        return u8(offset) != 0;
    }

    public final void u8(int offset, int value) {
        memory.write(at(offset), 1, value);
    }

    public final void u16(int offset, int value) {
        memory.write(at(offset), 2, value);
    }

    public final void u32(int offset, int value) {
        memory.write(at(offset), 4, value);
    }

    public final void u64(int offset, long value) {
        memory.write(at(offset), 8, value);
    }

    public final void flag(int offset, boolean value) {
        u8(offset, value ? 1 : 0);
    }

    public final long read(int offset, int bytes) {
        return memory.read(at(offset), bytes);
    }

    public final void write(int offset, int bytes, long value) {
        memory.write(at(offset), bytes, value);
    }

    public final byte[] bytes(int offset, int length) {
        var result = new byte[length];
        memory.read(at(offset), result, 0, length);
        return result;
    }

    public final void bytes(int offset, byte[] value) {
        memory.write(at(offset), value, 0, value.length);
    }

    public final LockWord lock(int offset) {
        return new LockWord.InMemory(memory, at(offset));
    }
}
