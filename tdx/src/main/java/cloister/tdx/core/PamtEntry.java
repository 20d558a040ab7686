package cloister.tdx.core;

import cloister.memory.PhysicalMemory;

/// A PAMT entry in memory, 16 bytes: lock 15:0, page type 23:16, owner frame 63:24, BEPOCH. [TDX-BASE "PAMT Entry"]
public record PamtEntry(PhysicalMemory memory, long hpa) implements LockWord {
    public static final int BYTES = 16;

    public int type() {
        return (int) memory.read(hpa + 2, 1);
    }

    public void type(int type) {
        memory.write(hpa + 2, 1, type);
    }

    /// The TDR page of the TD that owns the page.
    public long ownerPa() {
        return memory.read(hpa, 8) >>> 24 << 12;
    }

    public void ownerPa(long pa) {
        memory.write(hpa, 8, (memory.read(hpa, 8) & 0xff_ffff) | (pa >>> 12 << 24));
    }

    public long bepoch() {
        return memory.read(hpa + 8, 8);
    }

    public void bepoch(long epoch) {
        memory.write(hpa + 8, 8, epoch);
    }

    /// The lock, which is the entry's first word: the entry itself, so that a walk makes no objects for it.
    public LockWord lock() {
        return this;
    }

    @Override public int get() {
        return (int) memory.read(hpa, 2);
    }

    @Override public void set(int value) {
        memory.write(hpa, 2, value);
    }

    @Override public int compareAndExchange(int expected, int value) {
        return (int) memory.atomics().compareAndExchange(hpa, 2, expected, value);
    }

    @Override public int fetchAdd(int value) {
        return (int) memory.atomics().fetchAdd(hpa, 2, value);
    }

    @Override public int fetchOr(int bits) {
        return (int) memory.atomics().fetchOr(hpa, 2, bits);
    }

    @Override public int fetchAnd(int bits) {
        return (int) memory.atomics().fetchAnd(hpa, 2, bits);
    }

    @Override public Object owner() {
        return memory;
    }

    @Override public long where() {
        return hpa;
    }

    /// Turns the page over to a TD.
    public void assign(int type, long tdrPa) {
        type(type);
        ownerPa(tdrPa);
    }
}
