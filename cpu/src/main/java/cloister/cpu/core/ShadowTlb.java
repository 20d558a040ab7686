package cloister.cpu.core;

import cloister.memory.PhysicalMemory;
import java.util.Arrays;

/// One processor's translations for shadow-stack accesses. They have rules of their own, so they are kept apart from those of the
/// [Tlb], which empties this whenever it drops something.
final class ShadowTlb {
    private static final int ENTRIES = 8;
    private static final long PAGE_MASK = -PhysicalMemory.FRAME_SIZE;
    private static final long NONE = -1;

    private final Cpu cpu;
    private final Tlb tlb;
    /// Linear page; in the low bits address space and right, as in [Tlb].
    private final long[] tags = new long[ENTRIES];
    private final long[] frames = new long[ENTRIES];
    private final boolean[] writable = new boolean[ENTRIES];
    private final Translation walk = new Translation();

    ShadowTlb(Cpu cpu, Tlb tlb) {
        this.cpu = cpu;
        this.tlb = tlb;
        clear();
    }

    void clear() {
        Arrays.fill(tags, NONE);
    }

    /// The platform address, KeyID included, of `linear` for a shadow-stack access.
    long hpa(long linear, boolean write, boolean user) {
        int right = user ? Walker.USER : Walker.SUPERVISOR;
        long tag = (linear & PAGE_MASK) | (tlb.context & ~3) | right;
        int entry = (int) (linear >>> PhysicalMemory.FRAME_SHIFT) & (ENTRIES - 1);
        if (tags[entry] != tag || (write && !writable[entry])) {
            cpu.walker.walk(cpu, linear, write ? Walker.SHADOW_WRITE : Walker.SHADOW_READ, right, walk);
            tags[entry] = tag;
            frames[entry] = walk.hpa & PAGE_MASK;
            writable[entry] = walk.writable;
        }
        return frames[entry] | (linear & ~PAGE_MASK);
    }
}
