package cloister.devices;

/// Gives bytes to the guest when it has room for them.
@FunctionalInterface
public interface ByteSource {
    /// There is no byte now.
    int NONE = -1;
    /// Never gives anything.
    ByteSource EMPTY = () -> NONE;

    /// The next byte, 0 to 255, or [#NONE]. Never waits.
    int next();
}
