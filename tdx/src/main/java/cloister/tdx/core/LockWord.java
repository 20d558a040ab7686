package cloister.tdx.core;

import cloister.memory.PhysicalMemory;

/// The 16 bits of a lock: in a control structure, in a PAMT entry, or in the module's own data.
public sealed interface LockWord permits LockWord.InMemory, LockWord.Own, PamtEntry {
    int get();

    void set(int value);

    /// What holds the word, for the switch point of a try: the same for every object that stands for the same lock.
    Object owner();

    /// Where in [#owner] it is.
    long where();

    /// A lock in memory.
    ///
    /// @param hpa address with KeyID
    record InMemory(PhysicalMemory memory, long hpa) implements LockWord {
        @Override public int get() {
            return (int) memory.read(hpa, 2);
        }

        @Override public void set(int value) {
            memory.write(hpa, 2, value);
        }

        @Override public Object owner() {
            return memory;
        }

        @Override public long where() {
            return hpa;
        }
    }

    /// A lock of the module's data region.
    final class Own implements LockWord {
        private int value;

        @Override public int get() {
            return value;
        }

        @Override public void set(int value) {
            this.value = value & 0xffff;
        }

        @Override public Object owner() {
            return this;
        }

        @Override public long where() {
            return 0;
        }
    }
}
