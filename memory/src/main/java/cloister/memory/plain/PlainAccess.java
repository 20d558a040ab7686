package cloister.memory.plain;

/// What the silicon shows to see memory as it is behind the memory controller, whoever owns it. The package is exported to the modules
/// that model processors and the TDX module, so that host software cannot name it: the compiler keeps the hypervisor from reading what
/// belongs to a trust domain. [ADR 1]
public final class PlainAccess {
    /// The only one.
    public static final PlainAccess SILICON = new PlainAccess();

    private PlainAccess() {
    }
}
