package cloister.devices;

import java.util.Locale;
import java.util.Map;
import java.util.TreeMap;

/// Memory space outside RAM. What no device claims reads as all ones.
public final class MmioBus {
    private record Claim(long bytes, MmioDevice device) {
    }

    private final TreeMap<Long, Claim> claims = new TreeMap<>();

    /// Gives `[firstGpa, firstGpa + bytes)` to `device`.
    ///
    /// @throws IllegalStateException when part of it is taken
    public void claim(long firstGpa, long bytes, MmioDevice device) {
        var before = claims.floorEntry(firstGpa + bytes - 1);
        if (before != null && before.getKey() + before.getValue().bytes() > firstGpa) {
            throw new IllegalStateException(String.format(Locale.ROOT, "address 0x%x is claimed twice", firstGpa));
        }
        claims.put(firstGpa, new Claim(bytes, device));
    }

    /// Reads `size` (1, 2, 4 or 8) bytes, zero-extended.
    public long read(long gpa, int size) {
        long mask = size == 8 ? -1 : (1L << (8 * size)) - 1;
        var claim = find(gpa);
        return claim == null ? mask : claim.getValue().device().readMmio(gpa - claim.getKey(), size) & mask;
    }

    /// Writes the low `size` bytes of `value`.
    public void write(long gpa, int size, long value) {
        var claim = find(gpa);
        if (claim != null) {
            claim.getValue().device().writeMmio(gpa - claim.getKey(), size, value);
        }
    }

    private Map.Entry<Long, Claim> find(long gpa) {
        var claim = claims.floorEntry(gpa);
        return claim == null || gpa - claim.getKey() >= claim.getValue().bytes() ? null : claim;
    }
}
