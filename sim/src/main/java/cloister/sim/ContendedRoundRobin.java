package cloister.sim;

import java.util.List;

/// Round robin that makes the most of every lock of the TDX module: whoever has taken one loses the baton to the next host thread, and
/// goes on when that one gives way, parks or has taken a lock in its turn. What can be in each other's way is, over and over; so this is
/// the schedule under which two parties that both try again never come to an end.
public final class ContendedRoundRobin implements SchedulingStrategy {
    private final RoundRobin order = new RoundRobin();

    @Override public HostThread atSwitchPoint(HostThread current, SwitchPoint point, Object owner, long where,
            List<HostThread> runnable) {
        return point.givesWay() || point == SwitchPoint.LOCKED ? next(current, runnable) : current;
    }

    @Override public HostThread next(HostThread previous, List<HostThread> runnable) {
        return order.next(previous, runnable);
    }

    @Override public boolean explores() {
        return true;
    }
}
