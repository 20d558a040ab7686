package cloister.sim;

/// Whoever arms timers of the [VirtualClock]. A timer is data: its owner and which of the owner's timers it is, so that armed timers can
/// be listed, saved and armed again.
///
/// @param <K> names the owner's timers
@FunctionalInterface
public interface TimerOwner<K extends Enum<K>> {
    /// A timer is due and not armed any more. Runs on the host thread that advanced the clock; it must not switch host threads.
    ///
    /// @param kind which one
    void timerFired(K kind);
}
