package cloister.vmm;

import cloister.vmm.observe.TraceEvent;
import cloister.vmm.observe.TraceKind;

/// Hears what a machine does; every method may be left out. Called on the host thread that holds the baton.
public interface MachineObserver {
    /// An observer that ignores everything.
    MachineObserver NONE = new MachineObserver() {
    };

    /// A step of building the machine, for people who wait.
    default void progress(String step) {
    }

    /// Whether [#event] shall be called for `kind`. Asked once, when the machine is built.
    default boolean wants(TraceKind kind) {
        return false;
    }

    /// Something happened that [#wants] asked for.
    default void event(TraceEvent event) {
    }
}
