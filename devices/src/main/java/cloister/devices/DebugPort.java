package cloister.devices;

/// The debug console that firmware writes to: a byte-wide port (0x402, 0xE9) that reads as 0xE9 when it is there.
public final class DebugPort implements PortDevice {
    /// What firmware reads to find out whether the port exists.
    public static final int PRESENT = 0xe9;
    private final ByteSink output;

    /// @param output receives every byte written
    public DebugPort(ByteSink output) {
        this.output = output;
    }

    @Override public int readPort(int port, int size) {
        return PRESENT;
    }

    @Override public void writePort(int port, int size, int value) {
        output.accept(value);
    }
}
