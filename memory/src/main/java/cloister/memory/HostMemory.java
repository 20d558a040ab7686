package cloister.memory;

import cloister.sim.Scheduler;
import cloister.sim.SwitchPoint;

/// The platform's memory as the loads and stores of host software see it, and all of it that a hypervisor gets: addresses whose KeyID
/// is private to the TDX module do not translate outside of SEAM mode, and nothing here tells or changes who owns a line but by
/// writing it. [TDX-BASE "Memory Encryption Keys"]
///
/// Each operation is that of [PhysicalMemory]; with a private KeyID it throws `IllegalArgumentException` and does nothing, where a
/// processor's paging would raise #PF for a reserved bit.
public final class HostMemory {
    private final PhysicalMemory memory;
    private final long limitHpa;
    private final AtomicWords atomics;

    /// The host's view of `memory`. Who has only the view cannot come back from it.
    public HostMemory(PhysicalMemory memory) {
        this.memory = memory;
        this.limitHpa = PhysicalMemory.hpa(0, memory.firstPrivateKeyId());
        this.atomics = new AtomicWords(memory, null, null, limitHpa);
    }

    /// Bytes of physical memory.
    public long size() {
        return memory.size();
    }

    /// Reads `bytes` (1, 2, 4 or 8) at `hpa`.
    public long read(long hpa, int bytes) {
        return memory.read(checked(hpa), bytes);
    }

    /// Copies content out.
    public void read(long hpa, byte[] target, int offset, int length) {
        memory.read(checked(hpa), target, offset, length);
    }

    /// Writes the low `bytes` (1, 2, 4 or 8) of `value` at `hpa`.
    public void write(long hpa, int bytes, long value) {
        memory.write(checked(hpa), bytes, value);
    }

    /// Copies content in.
    public void write(long hpa, byte[] source, int offset, int length) {
        memory.write(checked(hpa), source, offset, length);
    }

    /// Fills `[hpa, hpa + length)` with `value`.
    public void fill(long hpa, long length, byte value) {
        memory.fill(checked(hpa), length, value);
    }

    /// Atomic operations on words, without switch points.
    public AtomicWords atomics() {
        return atomics;
    }

    /// Atomic operations on words with a switch point of `kind` before each.
    public AtomicWords atomics(Scheduler scheduler, SwitchPoint kind) {
        return new AtomicWords(memory, scheduler, kind, limitHpa);
    }

    private long checked(long hpa) {
        AtomicWords.check(hpa, limitHpa);
        return hpa;
    }
}
