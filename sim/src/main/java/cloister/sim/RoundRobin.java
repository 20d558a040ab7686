package cloister.sim;

import java.util.List;

/// The default: a host thread keeps the baton until its guest has used up a slice or it parks; then the next
/// one in order of creation goes on.
public final class RoundRobin implements SchedulingStrategy {
    @Override public HostThread atSwitchPoint(HostThread current, SwitchPoint point, List<HostThread> runnable) {
        return point == SwitchPoint.GUEST_SLICE ? next(current, runnable) : current;
    }

    @Override public HostThread next(HostThread previous, List<HostThread> runnable) {
        for (var candidate : runnable) {
            if (candidate.id() > previous.id()) {
                return candidate;
            }
        }
        return runnable.getFirst();
    }
}
