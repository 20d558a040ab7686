package cloister.kvm;

/// `struct kvm_segment`.
///
/// @param limit    in bytes, unsigned
/// @param type     descriptor type, 0..15
/// @param s        false: system segment
/// @param unusable as the VMCS knows it
public record KvmSegment(long base, int limit, int selector, int type, boolean present, int dpl, boolean db, boolean s,
                         boolean l, boolean g, boolean avl, boolean unusable) {
    /// A present flat 4 GiB segment of a privileged 32-bit program.
    public static KvmSegment flat(int selector, int type) {
        return new KvmSegment(0, -1, selector, type, true, 0, true, true, false, true, false, false);
    }

    /// A real-mode segment.
    public static KvmSegment realMode(int selector, int type) {
        return new KvmSegment((selector & 0xffffL) << 4, 0xffff, selector, type, true, 0, false, true, false, false, false,
                false);
    }

    /// Access rights in the format of the VMCS. [SDM Vol. 3 "Guest Register State"]
    public int accessRights() {
        return type | bit(s, 4) | (dpl << 5) | bit(present, 7) | bit(avl, 12) | bit(l, 13) | bit(db, 14) | bit(g, 15)
                | bit(unusable, 16);
    }

    /// The segment with the given access rights.
    public static KvmSegment of(int selector, long base, int limit, int ar) {
        return new KvmSegment(base, limit, selector, ar & 15, (ar & (1 << 7)) != 0, (ar >> 5) & 3, (ar & (1 << 14)) != 0,
                (ar & (1 << 4)) != 0, (ar & (1 << 13)) != 0, (ar & (1 << 15)) != 0, (ar & (1 << 12)) != 0, (ar & (1 << 16)) != 0);
    }

    private static int bit(boolean value, int position) {
        return value ? 1 << position : 0;
    }
}
