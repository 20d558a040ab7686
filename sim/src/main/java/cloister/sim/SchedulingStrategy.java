package cloister.sim;

import java.util.List;

/// Decides which runnable host thread goes on. Deterministic: the same questions in the same order get the
/// same answers.
public interface SchedulingStrategy {
    /// Chooses at a switch point.
    ///
    /// @param current  the host thread that reached the point; it is runnable and an element of `runnable`
    /// @param point    what it is about to do
    /// @param runnable every runnable host thread, in order of creation, at least one
    /// @return an element of `runnable`
    HostThread atSwitchPoint(HostThread current, SwitchPoint point, List<HostThread> runnable);

    /// Chooses when the current host thread parked or ended.
    ///
    /// @param runnable every runnable host thread, in order of creation, at least one
    HostThread next(HostThread previous, List<HostThread> runnable);
}
