package cloister.devices;

/// Where a serial port's output goes. Called on the host thread that holds the baton.
@FunctionalInterface
public interface ByteSink {
    /// One byte, in the low 8 bits.
    void accept(int octet);
}
