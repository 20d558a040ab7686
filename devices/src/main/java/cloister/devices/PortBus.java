package cloister.devices;

import java.util.Locale;

/// I/O port space. An access that no device claims reads as all ones; an access that straddles devices goes
/// byte by byte, as a bus with 8-bit devices does it.
public final class PortBus {
    private static final int PORTS = 0x10000;
    private final PortDevice[] claims = new PortDevice[PORTS];

    /// Gives `count` ports from `first` to `device`.
    ///
    /// @throws IllegalStateException when one of them is taken
    public void claim(int first, int count, PortDevice device) {
        for (int port = first; port < first + count; port++) {
            if (claims[port] != null) {
                throw new IllegalStateException(String.format(Locale.ROOT, "port 0x%x is claimed twice", port));
            }
            claims[port] = device;
        }
    }

    /// Reads `size` (1, 2 or 4) bytes, zero-extended.
    public int read(int port, int size) {
        var device = claims[port];
        int mask = size == 4 ? -1 : (1 << (8 * size)) - 1;
        if (size == 1 || wholly(device, port, size)) {
            return device == null ? mask : device.readPort(port, size) & mask;
        }
        int value = 0;
        for (int i = 0; i < size; i++) {
            value |= read((port + i) & (PORTS - 1), 1) << (8 * i);
        }
        return value;
    }

    /// Writes the low `size` (1, 2 or 4) bytes of `value`.
    public void write(int port, int size, int value) {
        var device = claims[port];
        if (size == 1 || wholly(device, port, size)) {
            if (device != null) {
                device.writePort(port, size, size == 4 ? value : value & ((1 << (8 * size)) - 1));
            }
            return;
        }
        for (int i = 0; i < size; i++) {
            write((port + i) & (PORTS - 1), 1, (value >>> (8 * i)) & 0xff);
        }
    }

    private boolean wholly(PortDevice device, int port, int size) {
        for (int i = 1; i < size; i++) {
            if (claims[(port + i) & (PORTS - 1)] != device) {
                return false;
            }
        }
        return device == null || device.takesWide();
    }
}
