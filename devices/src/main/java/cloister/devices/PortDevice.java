package cloister.devices;

/// A device in I/O port space. `port` is absolute; `size` is 1 byte unless the device [#takesWide] accesses.
public interface PortDevice {
    /// Reads; bits above `size` bytes are ignored.
    int readPort(int port, int size);

    /// Writes the low `size` bytes of `value`.
    void writePort(int port, int size, int value);

    /// Whether the device sees accesses of 2 and 4 bytes as such; otherwise the bus splits them.
    default boolean takesWide() {
        return false;
    }
}
