package cloister.kvm.emulate;

/// Items of I/O data: little-endian bytes in the page that KVM and the VMM share.
public final class ItemBytes {
    private static final long LOW = 0xffff_ffffL;

    private ItemBytes() {
    }

    /// The first item, of `size` bytes (1 to 8), zero-extended.
    public static long load(byte[] data, int size) {
        return load(data, 0, size);
    }

    /// The item of `size` bytes at `offset`, zero-extended.
    public static long load(byte[] data, int offset, int size) {
        long value = 0;
        for (int i = 0; i < size; i++) {
            value |= (data[offset + i] & 0xffL) << (8 * i);
        }
        return value;
    }

    /// Stores the first item.
    public static void store(byte[] data, int size, long value) {
        for (int i = 0; i < size; i++) {
            data[i] = (byte) (value >>> (8 * i));
        }
    }

    /// A register of which an instruction writes the part in `mask`: a 32-bit write clears the upper half.
    public static long merge(long old, long value, long mask) {
        return mask == LOW ? value & LOW : (old & ~mask) | (value & mask);
    }
}
