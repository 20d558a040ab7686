package cloister.kvm.mmu;

import java.util.BitSet;

/// Which guest frames are private, by KVM_SET_MEMORY_ATTRIBUTES.
public final class MemoryAttributes {
    private final BitSet privateGfns = new BitSet();

    /// Whether guest frame `gfn` is private.
    public boolean isPrivate(long gfn) {
        return gfn <= Integer.MAX_VALUE && privateGfns.get((int) gfn);
    }

    /// Sets the attribute of `[first, end)`.
    ///
    /// @return how many frames changed
    public long set(long first, long end, boolean isPrivate) {
        int from = Math.toIntExact(first);
        int to = Math.toIntExact(end);
        long before = privateGfns.get(from, to).cardinality();
        privateGfns.set(from, to, isPrivate);
        return isPrivate ? end - first - before : before;
    }

    /// Whether all of `[first, end)` have the attribute that `first` has.
    public boolean isUniform(long first, long end) {
        if (end > Integer.MAX_VALUE) {
            return !isPrivate(first);
        }
        int boundary = isPrivate(first) ? privateGfns.nextClearBit((int) first) : privateGfns.nextSetBit((int) first);
        return boundary < 0 || boundary >= end;
    }
}
