package cloister.isa;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Locale;

/// Bytes under assembly, with an address for each and places to be filled in when labels are known.
final class CodeBuffer {
    /// A field of `size` bytes at `offset`: the label's address plus `addend`, minus `relativeTo` if relative.
    private record Fixup(int offset, int size, Label label, long addend, boolean relative, long relativeTo) {
    }

    private byte[] bytes = new byte[256];
    private int length;
    /// Address of the byte at offset 0 under the current origin.
    private long bias;
    private final List<Fixup> fixups = new ArrayList<>();

    CodeBuffer(long origin) {
        bias = origin;
    }

    long address() {
        return bias + length;
    }

    void origin(long address) {
        bias = address - length;
    }

    int length() {
        return length;
    }

    void put(byte[] more) {
        ensure(more.length);
        System.arraycopy(more, 0, bytes, length, more.length);
        length += more.length;
    }

    void put(int value) {
        ensure(1);
        bytes[length++] = (byte) value;
    }

    void put(long value, int size) {
        for (int i = 0; i < size; i++) {
            put((int) (value >> (8 * i)));
        }
    }

    private void ensure(int more) {
        if (length + more > bytes.length) {
            bytes = Arrays.copyOf(bytes, Math.max(bytes.length * 2, length + more));
        }
    }

    /// Reserves a field for an absolute address at `offset` bytes from the start of the buffer.
    void absolute(int offset, int size, Label label, long addend) {
        fixups.add(new Fixup(offset, size, label, addend, false, 0));
    }

    /// Reserves a field for an address relative to `relativeTo`.
    void relative(int offset, int size, Label label, long addend, long relativeTo) {
        fixups.add(new Fixup(offset, size, label, addend, true, relativeTo));
    }

    byte[] finish() {
        byte[] result = Arrays.copyOf(bytes, length);
        for (Fixup fixup : fixups) {
            long value = fixup.label.address() + fixup.addend - (fixup.relative ? fixup.relativeTo : 0);
            if (!fits(value, fixup.size, fixup.relative)) {
                throw new IllegalStateException(String.format(Locale.ROOT, "label address 0x%x does not fit in %d bytes",
                        value, fixup.size));
            }
            for (int i = 0; i < fixup.size; i++) {
                result[fixup.offset + i] = (byte) (value >> (8 * i));
            }
        }
        return result;
    }

    private static boolean fits(long value, int size, boolean signed) {
        if (size == 8) {
            return true;
        }
        long high = 1L << (8 * size);
        return value >= -(high >> 1) && value < (signed ? high >> 1 : high);
    }
}
