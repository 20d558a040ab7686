package cloister.sim;

import java.util.List;

/// Decides which runnable host thread goes on. Deterministic: the same questions in the same order get the
/// same answers. Nobody asks while there is only one answer.
public interface SchedulingStrategy {
    /// Chooses at a switch point.
    ///
    /// @param current  the host thread that reached the point; it is runnable and an element of `runnable`
    /// @param point    what it is about to do
    /// @param owner    what the point is about, or null; see [SwitchObserver#reached]
    /// @param where    which part of `owner`
    /// @param runnable every runnable host thread, in order of creation, at least two; a live view: copy it to keep it
    /// @return an element of `runnable`
    HostThread atSwitchPoint(HostThread current, SwitchPoint point, Object owner, long where, List<HostThread> runnable);

    /// Chooses when the current host thread parked or ended.
    ///
    /// @param runnable every runnable host thread, in order of creation, at least two; a live view
    HostThread next(HostThread previous, List<HostThread> runnable);

    /// Whether host threads may also lose the baton where nobody needs it but who looks for interleavings: at [SwitchPoint#LOCKED]. To
    /// all others there are no such points. The answer is always the same.
    default boolean explores() {
        return false;
    }
}
