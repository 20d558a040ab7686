package cloister.kvm.mmu;

import cloister.kvm.DirtyGfnRing;
import cloister.sim.Persistent;
import cloister.sim.StateSink;
import java.util.Arrays;

/// The ring in which one vCPU tells the VMM which pages it wrote. The VMM reads entries in order, marks each as harvested, and lets KVM
/// reset them. [LINUX "KVM_CAP_DIRTY_LOG_RING", virt/kvm/dirty_ring.c]
public final class DirtyRing implements DirtyGfnRing, Persistent {
    /// Bytes of one entry. (struct kvm_dirty_gfn)
    public static final int ENTRY_SIZE = 16;
    /// The largest ring.
    public static final int MAX_ENTRIES = 65_536;
    /// Entries kept free for what a vCPU writes after the ring was found full.
    static final int RESERVED_ENTRIES = 64;

    private final int[] flags;
    private final int[] slots;
    private final long[] offsets;
    private final int softLimit;
    private int dirtyIndex;
    private int resetIndex;

    /// @param entries       a power of two
    /// @param cpuDirtyLog   entries of the processor's own dirty log, which may all come at once
    DirtyRing(int entries, int cpuDirtyLog) {
        flags = new int[entries];
        slots = new int[entries];
        offsets = new long[entries];
        softLimit = entries - RESERVED_ENTRIES - cpuDirtyLog;
    }

    @Override public int size() {
        return flags.length;
    }

    @Override public int flags(int index) {
        return flags[index];
    }

    @Override public int slot(int index) {
        return slots[index];
    }

    @Override public long offset(int index) {
        return offsets[index];
    }

    @Override public void harvested(int index) {
        flags[index] |= FLAG_RESET;
    }

    private int used() {
        return dirtyIndex - resetIndex;
    }

    /// Whether the vCPU must go to the VMM before it runs on.
    public boolean isSoftFull() {
        return used() >= softLimit;
    }

    void push(int slot, long offset) {
        if (used() >= flags.length) {
            throw new IllegalStateException("dirty ring overflows: the vCPU ran on although the ring was full");
        }
        int index = dirtyIndex & (flags.length - 1);
        slots[index] = slot;
        offsets[index] = offset;
        flags[index] = FLAG_DIRTY;
        dirtyIndex++;
    }

    /// Takes the next harvested entry back.
    ///
    /// @return its index, or -1 when there is none
    int reset() {
        int index = resetIndex & (flags.length - 1);
        if ((flags[index] & FLAG_RESET) == 0) {
            return -1;
        }
        flags[index] = 0;
        resetIndex++;
        return index;
    }

    @Override public String stateName() {
        return "dirtyRing";
    }

    @Override public void describe(StateSink to) {
        to.words("flags", Arrays.stream(flags).asLongStream().toArray());
        to.words("slots", Arrays.stream(slots).asLongStream().toArray());
        to.words("offsets", offsets);
        to.field("softLimit", softLimit);
        to.field("dirtyIndex", dirtyIndex);
        to.field("resetIndex", resetIndex);
    }
}
