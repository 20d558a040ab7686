package cloister.devices;

/// A device in I/O port space. `port` is absolute; `size` is 1, 2 or 4 bytes.
public interface PortDevice {
    /// Reads; bits above `size` bytes are ignored.
    int readPort(int port, int size);

    /// Writes the low `size` bytes of `value`.
    void writePort(int port, int size, int value);
}
