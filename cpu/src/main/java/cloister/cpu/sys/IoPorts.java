package cloister.cpu.sys;

/// What a logical processor reaches through IN and OUT outside VMX non-root operation. [SDM Vol. 1 "Input/Output"]
public interface IoPorts {
    /// Reads `bytes` (1, 2 or 4) at `port`; unclaimed ports read as ones.
    int in(int port, int bytes);

    /// Writes the low `bytes` (1, 2 or 4) of `value` at `port`.
    void out(int port, int bytes, int value);
}
