package cloister.devices;

/// A wire from a device to an interrupt controller.
@FunctionalInterface
public interface InterruptLine {
    /// Drives the wire; repeated calls with the same level are harmless.
    void drive(boolean asserted);
}
