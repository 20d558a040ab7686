package cloister.kvm.mmu;

import java.util.Arrays;

/// The memory slots of one address space at one time, sorted by guest frame. Immutable but for its generation. [LINUX struct
/// kvm_memslots]
final class MemSlotSet {
    /// The generation while the set is in use and the change that made it has not ended. (KVM_MEMSLOT_GEN_UPDATE_IN_PROGRESS)
    static final long UPDATE_IN_PROGRESS = 1L << 63;

    private final MemSlot[] byGfn;
    private long generation;

    MemSlotSet(MemSlot[] byGfn, long generation) {
        this.byGfn = byGfn;
        this.generation = generation;
    }

    long generation() {
        return generation;
    }

    void generation(long value) {
        generation = value;
    }

    /// The slots in the order of their frames; not to be modified.
    MemSlot[] all() {
        return byGfn;
    }

    /// The slot of guest frame `gfn`, or null.
    MemSlot find(long gfn) {
        int low = 0;
        int high = byGfn.length - 1;
        while (low <= high) {
            int middle = (low + high) >>> 1;
            var slot = byGfn[middle];
            if (gfn < slot.baseGfn()) {
                high = middle - 1;
            } else if (gfn >= slot.endGfn()) {
                low = middle + 1;
            } else {
                return slot;
            }
        }
        return null;
    }

    /// The slot with number `id`, or null.
    MemSlot byId(int id) {
        for (var slot : byGfn) {
            if (slot.id() == id) {
                return slot;
            }
        }
        return null;
    }

    /// Whether a slot other than number `id` has a frame of `[first, end)`.
    boolean overlaps(int id, long first, long end) {
        for (var slot : byGfn) {
            if (slot.id() != id && slot.baseGfn() < end && first < slot.endGfn()) {
                return true;
            }
        }
        return false;
    }

    /// The slots with `old` (null: nothing) taken out and `replacement` (null: nothing) put in.
    MemSlot[] replaced(MemSlot old, MemSlot replacement) {
        int length = byGfn.length + (replacement == null ? 0 : 1) - (old == null ? 0 : 1);
        var slots = new MemSlot[length];
        int n = 0;
        for (var slot : byGfn) {
            if (slot != old) {
                slots[n++] = slot;
            }
        }
        if (replacement != null) {
            slots[n] = replacement;
            Arrays.sort(slots, (a, b) -> Long.compare(a.baseGfn(), b.baseGfn()));
        }
        return slots;
    }
}
