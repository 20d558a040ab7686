package cloister.devices;

/// The configuration space of one PCI function, 256 bytes: content and which bits can be written.
/// [PCI Local Bus 3.0 "Configuration Space"]
public final class PciFunction {
    private static final int BYTES = 256;
    private final byte[] content = new byte[BYTES];
    private final byte[] writable = new byte[BYTES];

    /// A type 0 function without BARs or interrupts.
    ///
    /// @param classCode base class, subclass and programming interface, 24 bits
    public PciFunction(int vendor, int device, int classCode, int revision) {
        put(0, 2, vendor);
        put(2, 2, device);
        put(8, 4, (classCode << 8) | revision);
        put(0x2c, 2, vendor);
        allowWrites(4, 2, 0x0547); // command: I/O, memory, bus master, parity, SERR#, INTx disable
        allowWrites(0x0c, 1, 0xff);
        allowWrites(0x3c, 1, 0xff);
    }

    /// Sets read-only content.
    public void put(int offset, int size, int value) {
        for (int i = 0; i < size; i++) {
            content[offset + i] = (byte) (value >>> (8 * i));
        }
    }

    /// Declares bits that the guest can change.
    public void allowWrites(int offset, int size, int mask) {
        for (int i = 0; i < size; i++) {
            writable[offset + i] = (byte) (mask >>> (8 * i));
        }
    }

    byte[] content() {
        return content;
    }

    int read(int offset, int size) {
        int value = 0;
        for (int i = 0; i < size; i++) {
            value |= (content[(offset + i) & (BYTES - 1)] & 0xff) << (8 * i);
        }
        return value;
    }

    void write(int offset, int size, int value) {
        for (int i = 0; i < size; i++) {
            int at = (offset + i) & (BYTES - 1);
            content[at] = (byte) ((content[at] & ~writable[at]) | ((value >>> (8 * i)) & writable[at]));
        }
    }
}
