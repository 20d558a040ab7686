package cloister.kvm.host;

import java.util.BitSet;

/// Numbers that the host gives away and takes back: VPIDs. [LINUX allocate_vpid]
public final class IdPool {
    private final BitSet used = new BitSet();
    private final int first;
    private final int end;

    /// Numbers from `first` to `end` - 1.
    public IdPool(int first, int end) {
        this.first = first;
        this.end = end;
    }

    /// The lowest free number, or 0 when all are in use.
    public int allocate() {
        int id = used.nextClearBit(first);
        if (id >= end) {
            return 0;
        }
        used.set(id);
        return id;
    }

    /// Gives it back.
    public void free(int id) {
        used.clear(id);
    }
}
