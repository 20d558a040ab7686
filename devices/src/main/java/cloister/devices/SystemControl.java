package cloister.devices;

/// What a device can ask of the machine as a whole.
public interface SystemControl {
    /// Power off (ACPI S5).
    void powerOff();

    /// Reset, by the mechanism named (for traces).
    void reset(String mechanism);
}
