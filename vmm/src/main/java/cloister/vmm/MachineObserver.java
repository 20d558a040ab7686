package cloister.vmm;

/// Hears what a machine does; every method may be left out. Called on the host thread that holds the baton.
public interface MachineObserver {
    /// An observer that ignores everything.
    MachineObserver NONE = new MachineObserver() {
    };

    /// A step of building the machine, for people who wait.
    default void progress(String step) {
    }

    /// A vCPU came back to the VMM. Registers are the guest's only as far as the uAPI shows them.
    ///
    /// @param vcpu   index of the vCPU
    /// @param reason KVM's word for it, such as `IO` or `MMIO`
    /// @param detail what is known, such as `out 0x3f8 1 0x41`
    default void userExit(int vcpu, String reason, String detail) {
    }
}
