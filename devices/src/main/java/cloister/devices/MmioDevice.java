package cloister.devices;

/// A device in memory space. `offset` counts from the start of its range; `size` is 1, 2, 4 or 8 bytes.
public interface MmioDevice {
    /// Reads; bits above `size` bytes are ignored.
    long readMmio(long offset, int size);

    /// Writes the low `size` bytes of `value`.
    void writeMmio(long offset, int size, long value);
}
