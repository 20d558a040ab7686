package cloister.sim;

/// Sees which host thread runs, for traces and statistics. It only looks: it changes nothing and takes no switch points.
public interface BatonObserver {
    /// The baton goes from one host thread to another. Called on the thread that gives it away, before the other one runs.
    ///
    /// @param from  null at the start of a run
    /// @param to    the new holder, never the same as `from`
    /// @param waits whether `from` waits, has ended or is null; false when it could go on
    void passed(HostThread from, HostThread to, boolean waits);
}
