package cloister.vmm;

/// Hears what a machine does; every method may be left out. Called on the host thread that holds the baton.
public interface MachineObserver {
    /// An observer that ignores everything.
    MachineObserver NONE = new MachineObserver() {
    };

    /// What can be traced.
    enum Kind {
        /// A SEAMCALL returned: leaf, operands, status.
        SEAMCALL,
        /// A trust domain executed TDCALL.
        TDCALL,
        /// A VM exit, of trust domains to the TDX module as well.
        VM_EXIT,
        /// A SEAMCALL that concerns Secure EPT or private pages.
        SEPT,
        /// KVM_RUN returned to the VMM.
        USER_EXIT
    }

    /// A step of building the machine, for people who wait.
    default void progress(String step) {
    }

    /// Whether [#event] shall be called for `kind`. Asked once, when the machine is built.
    default boolean wants(Kind kind) {
        return false;
    }

    /// Something happened.
    ///
    /// @param processor index of the logical processor, for USER_EXIT of the vCPU
    /// @param ticks     virtual time
    /// @param text      one line for people; its format is no interface
    default void event(Kind kind, int processor, long ticks, String text) {
    }
}
