package cloister.cli.profile;

import cloister.cli.profile.SymbolTable.Symbol;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;

/// Finds the symbols that a Linux kernel carries for its own messages (CONFIG_KALLSYMS) in its uncompressed image. Names are sequences of
/// tokens; the table of tokens is found by the digits in it, which nearly always stand for themselves, and everything else by its place
/// relative to that table: number of symbols, names, markers, token table, token index, then offsets and their base, which older kernels
/// have before the number instead. [LINUX kernel/kallsyms.c, kernel/kallsyms_internal.h]
final class Kallsyms {
    private static final int TOKENS = 256;
    private static final int SYMBOLS_PER_MARKER = 256;
    private static final int ALIGN = 8;
    private static final int FARTHEST = 1 << 17;
    private static final byte[] DIGITS = "0\0001\0002\0003\0004\0005\0006\0007\0008\0009\0".getBytes(StandardCharsets.ISO_8859_1);
    private static final long KERNEL_HALF = 0xffffffff80000000L;

    private final ByteBuffer image;
    private final String[] tokens = new String[TOKENS];
    private int tokenTable;
    private int tokenEnd;

    private Kallsyms(byte[] image) {
        this.image = ByteBuffer.wrap(image).order(ByteOrder.LITTLE_ENDIAN);
    }

    /// The symbols; none when the image has none that we find.
    static List<Symbol> find(byte[] image) {
        for (int at = indexOf(image, 0); at >= 0; at = indexOf(image, at + 1)) {
            try {
                var found = new Kallsyms(image).read(at);
                if (!found.isEmpty()) {
                    return found;
                }
            } catch (IndexOutOfBoundsException e) {
                // The digits were not those of the table: look on.
            }
        }
        return List.of();
    }

    private static int indexOf(byte[] image, int from) {
        search:
        for (int i = from; i <= image.length - DIGITS.length; i++) {
            for (int k = 0; k < DIGITS.length; k++) {
                if (image[i + k] != DIGITS[k]) {
                    continue search;
                }
            }
            return i;
        }
        return -1;
    }

    private List<Symbol> read(int zero) {
        if (!readTokens(zero)) {
            return List.of();
        }
        int markersEnd = align(tokenTable - ALIGN + 1);
        int last = markersEnd - Integer.BYTES;
        if (image.getInt(last) == 0) {
            last -= Integer.BYTES;
        }
        int first = last;
        while (first > 0 && image.getInt(first) != 0
                && Integer.compareUnsigned(image.getInt(first - Integer.BYTES), image.getInt(first)) < 0) {
            first -= Integer.BYTES;
        }
        int markers = (last - first) / Integer.BYTES + 1;
        if (image.getInt(first) != 0 || markers < 2) {
            return List.of();
        }
        int lowest = Math.max(ALIGN, first - image.getInt(last) - FARTHEST);
        for (int names = align(first - image.getInt(last)) - ALIGN; names >= lowest; names -= ALIGN) {
            int count = image.getInt(names - ALIGN);
            if (count > (markers - 1) * SYMBOLS_PER_MARKER && count <= markers * SYMBOLS_PER_MARKER) {
                var texts = names(names, count, first);
                if (texts != null) {
                    return withAddresses(texts, names - ALIGN);
                }
            }
        }
        return List.of();
    }

    private static int align(int at) {
        return (at + ALIGN - 1) & -ALIGN;
    }

    private boolean readTokens(int zero) {
        int at = zero;
        for (int i = 0; i < '0'; i++) {
            at--;
            while (image.get(at - 1) != 0) {
                at--;
            }
        }
        tokenTable = at;
        int[] places = new int[TOKENS];
        for (int i = 0; i < TOKENS; i++) {
            places[i] = at - tokenTable;
            int end = at;
            while (image.get(end) != 0) {
                end++;
            }
            tokens[i] = new String(image.array(), at, end - at, StandardCharsets.ISO_8859_1);
            at = end + 1;
        }
        int index = align(at);
        for (int i = 0; i < TOKENS; i++) {
            if ((image.getShort(index + Short.BYTES * i) & 0xffff) != places[i]) {
                return false;
            }
        }
        tokenEnd = index + Short.BYTES * TOKENS;
        return true;
    }

    /// The names, with the letter of the type before each; null when the bytes at `start` are none.
    private List<String> names(int start, int count, int markers) {
        var result = new ArrayList<String>(count);
        int at = start;
        for (int i = 0; i < count; i++) {
            if (i % SYMBOLS_PER_MARKER == 0 && image.getInt(markers + i / SYMBOLS_PER_MARKER * Integer.BYTES) != at - start) {
                return null;
            }
            int length = image.get(at++) & 0xff;
            if (length >= 0x80) { // two bytes, seven bits in the first
                length = (length & 0x7f) | ((image.get(at++) & 0xff) << 7);
            }
            var text = new StringBuilder();
            for (int k = 0; k < length; k++) {
                text.append(tokens[image.get(at++) & 0xff]);
            }
            if (text.length() < 2 || at > markers) {
                return null;
            }
            result.add(text.toString());
        }
        return align(at) == markers ? result : null;
    }

    private List<Symbol> withAddresses(List<String> names, int number) {
        int offsets = align(tokenEnd);
        int size = align(names.size() * Integer.BYTES);
        long base = offsets + size + Long.BYTES <= image.limit() ? image.getLong(offsets + size) : 0;
        if (Long.compareUnsigned(base, KERNEL_HALF) < 0) { // older: before the number of symbols
            base = image.getLong(number - ALIGN);
            offsets = number - ALIGN - size;
            if (Long.compareUnsigned(base, KERNEL_HALF) < 0) {
                return List.of();
            }
        }
        int negative = 0;
        for (int i = 0; i < names.size(); i++) {
            negative += image.getInt(offsets + Integer.BYTES * i) < 0 ? 1 : 0;
        }
        boolean percpuAbsolute = negative > names.size() / 2; // then offsets that are not negative are addresses themselves
        var result = new ArrayList<Symbol>(names.size());
        for (int i = 0; i < names.size(); i++) {
            int offset = image.getInt(offsets + Integer.BYTES * i);
            long address = !percpuAbsolute ? base + (offset & 0xffff_ffffL) : offset < 0 ? base - 1 - offset : offset;
            result.add(new Symbol(address, names.get(i).charAt(0), names.get(i).substring(1)));
        }
        return result;
    }
}
