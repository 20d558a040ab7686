package cloister.memory;

import cloister.sim.Scheduler;
import cloister.sim.SwitchPoint;

/// The operations by which words of memory change that several processors or host threads look at: LOCK-prefixed instructions,
/// accessed and dirty flags, paging-structure entries, posted-interrupt descriptors, lock words. Each is one step: nobody else acts
/// between its read and its write. [SDM Vol. 3 "Locked Atomic Operations"]
///
/// Made with a scheduler, it lets others act before each operation, at a switch point about the memory and the word's physical
/// address: whoever has read the word before must be ready to find it changed.
///
/// A word has 1, 2, 4 or 8 bytes; values are zero-extended. KeyIDs, ownership and addresses without memory are treated as
/// [PhysicalMemory#read] and [PhysicalMemory#write] do, so each operation can throw [Poison].
public final class AtomicWords {
    private final PhysicalMemory memory;
    private final Scheduler scheduler;
    private final SwitchPoint kind;
    private final long limitHpa;

    /// Operations without switch points, for those that take them elsewhere.
    public AtomicWords(PhysicalMemory memory) {
        this(memory, null, null);
    }

    /// Operations with a switch point of `kind` before each.
    public AtomicWords(PhysicalMemory memory, Scheduler scheduler, SwitchPoint kind) {
        this(memory, scheduler, kind, Long.MAX_VALUE);
    }

    /// @param limitHpa the first address, KeyID included, that the user of the operations cannot use
    AtomicWords(PhysicalMemory memory, Scheduler scheduler, SwitchPoint kind, long limitHpa) {
        this.memory = memory;
        this.scheduler = scheduler;
        this.kind = kind;
        this.limitHpa = limitHpa;
    }

    /// @throws IllegalArgumentException when `hpa` is at or beyond `limitHpa`
    static void check(long hpa, long limitHpa) {
        if (Long.compareUnsigned(hpa, limitHpa) >= 0) {
            throw new IllegalArgumentException("KeyID " + PhysicalMemory.keyId(hpa) + " is private to the TDX module, or no KeyID");
        }
    }

    /// The word, as READ_ONCE: no switch point, because whoever changes it has one.
    public long read(long hpa, int bytes) {
        check(hpa, limitHpa);
        return memory.read(hpa, bytes);
    }

    /// Stores `value`, whatever was there, as WRITE_ONCE.
    public void set(long hpa, int bytes, long value) {
        point(hpa);
        memory.write(hpa, bytes, value);
    }

    /// Stores `value` if the word is `expected`.
    ///
    /// @return the word before: `expected` when it was stored
    public long compareAndExchange(long hpa, int bytes, long expected, long value) {
        point(hpa);
        long old = memory.read(hpa, bytes);
        if (old == (expected & mask(bytes))) {
            memory.write(hpa, bytes, value);
        }
        return old;
    }

    /// Stores `value` if the word is `expected`.
    ///
    /// @return whether it was stored
    public boolean compareAndSet(long hpa, int bytes, long expected, long value) {
        return compareAndExchange(hpa, bytes, expected, value) == (expected & mask(bytes));
    }

    /// Stores `value`.
    ///
    /// @return the word before
    public long exchange(long hpa, int bytes, long value) {
        point(hpa);
        return memory.modify(hpa, bytes, 0, value, 0);
    }

    /// Sets the bits of `bits`.
    ///
    /// @return the word before
    public long fetchOr(long hpa, int bytes, long bits) {
        point(hpa);
        return memory.modify(hpa, bytes, -1, bits, 0);
    }

    /// Clears the bits that are not in `bits`.
    ///
    /// @return the word before
    public long fetchAnd(long hpa, int bytes, long bits) {
        point(hpa);
        return memory.modify(hpa, bytes, bits, 0, 0);
    }

    /// Adds `value`, which wraps round in the word.
    ///
    /// @return the word before
    public long fetchAdd(long hpa, int bytes, long value) {
        point(hpa);
        return memory.modify(hpa, bytes, -1, 0, value);
    }

    private void point(long hpa) {
        check(hpa, limitHpa);
        if (scheduler != null) {
            scheduler.switchPoint(kind, memory, PhysicalMemory.pa(hpa));
        }
    }

    private static long mask(int bytes) {
        return -1L >>> (Long.SIZE - (Byte.SIZE * bytes));
    }
}
