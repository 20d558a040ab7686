package cloister.kvm.mmu;

import cloister.sim.Persistent;
import cloister.sim.StateSink;
import java.util.Arrays;

/// Which guest frames are private, by KVM_SET_MEMORY_ATTRIBUTES. Kept as the frames at which the attribute changes, so that its size
/// is that of the pattern and not that of memory.
public final class MemoryAttributes implements Persistent {
    /// Ascending; frames in `[edges[0], edges[1])`, `[edges[2], edges[3])` and so on are private.
    private long[] edges = new long[16];
    private int count;

    /// Whether guest frame `gfn` is private.
    public boolean isPrivate(long gfn) {
        return (edgesUpTo(gfn) & 1) != 0;
    }

    /// How many edges are at or below `gfn`.
    private int edgesUpTo(long gfn) {
        int low = 0;
        int high = count;
        while (low < high) {
            int middle = (low + high) >>> 1;
            if (edges[middle] <= gfn) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        return low;
    }

    /// Sets the attribute of `[first, end)`.
    ///
    /// @return how many frames changed
    public long set(long first, long end, boolean isPrivate) {
        long changed = isPrivate ? end - first - privateFrames(first, end) : privateFrames(first, end);
        if (changed == 0) {
            return 0;
        }
        int from = edgesUpTo(first - 1);
        int to = edgesUpTo(end);
        int kept = 0;
        var fresh = new long[2];
        if (((from & 1) != 0) != isPrivate) {
            fresh[kept++] = first;
        }
        if (((to & 1) != 0) != isPrivate) {
            fresh[kept++] = end;
        }
        int length = count - (to - from) + kept;
        if (length > edges.length) {
            edges = Arrays.copyOf(edges, edges.length * 2);
        }
        System.arraycopy(edges, to, edges, from + kept, count - to);
        System.arraycopy(fresh, 0, edges, from, kept);
        count = length;
        return changed;
    }

    private long privateFrames(long first, long end) {
        long frames = 0;
        int i = edgesUpTo(first);
        boolean inside = (i & 1) != 0;
        for (long at = first; at < end; i++) {
            long next = i < count ? Math.min(edges[i], end) : end;
            frames += inside ? next - at : 0;
            at = next;
            inside = !inside;
        }
        return frames;
    }

    /// Whether all of `[first, end)` have the attribute that `first` has.
    public boolean isUniform(long first, long end) {
        int i = edgesUpTo(first);
        return i == count || edges[i] >= end;
    }

    /// Whether all of `[first, end)` are private, or all are not. [LINUX kvm_range_has_memory_attributes]
    public boolean has(long first, long end, boolean isPrivate) {
        return isPrivate(first) == isPrivate && isUniform(first, end);
    }

    @Override public String stateName() {
        return "attributes";
    }

    @Override public void describe(StateSink to) {
        to.words("edges", Arrays.copyOf(edges, count));
        to.field("count", count);
    }
}
