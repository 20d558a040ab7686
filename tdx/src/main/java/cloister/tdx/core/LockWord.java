package cloister.tdx.core;

import cloister.memory.PhysicalMemory;

/// The 16 bits of a lock: in a control structure, in a PAMT entry, or in the module's own data.
///
/// It changes by single operations only: nobody acts between the read and the write of one. [TDX-BASE "Concurrency Restrictions and
/// Enforcement"]
public sealed interface LockWord permits LockWord.InMemory, LockWord.Own, PamtEntry {
    /// The word, 0 to 0xffff.
    int get();

    /// Stores `value`: for whoever holds the lock, and for recordings.
    void set(int value);

    /// Stores `value` if the word is `expected`.
    ///
    /// @return the word before
    int compareAndExchange(int expected, int value);

    /// Adds `value`, which wraps round in 16 bits.
    ///
    /// @return the word before
    int fetchAdd(int value);

    /// Sets bits.
    ///
    /// @return the word before
    int fetchOr(int bits);

    /// Clears all but `bits`.
    ///
    /// @return the word before
    int fetchAnd(int bits);

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

        @Override public int compareAndExchange(int expected, int value) {
            int old = this.value;
            this.value = old == expected ? value & 0xffff : old;
            return old;
        }

        @Override public int fetchAdd(int addend) {
            int old = value;
            value = (old + addend) & 0xffff;
            return old;
        }

        @Override public int fetchOr(int bits) {
            int old = value;
            value = (old | bits) & 0xffff;
            return old;
        }

        @Override public int fetchAnd(int bits) {
            int old = value;
            value = old & bits;
            return old;
        }

        @Override public Object owner() {
            return this;
        }

        @Override public long where() {
            return 0;
        }
    }
}
