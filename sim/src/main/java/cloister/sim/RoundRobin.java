package cloister.sim;

import java.util.List;

/// The default: a host thread keeps the baton until its guest has used up a slice, it gives way or it parks; then the next
/// one in order of creation goes on.
public final class RoundRobin implements SchedulingStrategy {
    @Override public HostThread atSwitchPoint(HostThread current, SwitchPoint point, Object owner, long where,
            List<HostThread> runnable) {
        return point.givesWay() ? next(current, runnable) : current;
    }

    @Override public HostThread next(HostThread previous, List<HostThread> runnable) {
        for (int i = 0; i < runnable.size(); i++) {
            if (runnable.get(i).id() > previous.id()) {
                return runnable.get(i);
            }
        }
        return runnable.getFirst();
    }
}
