package cloister.sim;

import java.util.HashMap;
import java.util.List;
import java.util.Map;

/// Round robin that makes the most of every lock of the TDX module: before a host thread tries one, another that has had it before runs
/// until it has it again. So whoever can be busy is, over and over, in favour of host threads that were created earlier: this is the
/// schedule under which a later one that only tries again never comes to an end.
public final class ContendedRoundRobin implements SchedulingStrategy {
    /// Times that somebody else gives way before a thread that was stopped goes on, though its lock was not taken.
    private static final int PATIENCE = 4;

    private final RoundRobin order = new RoundRobin();
    private final Map<Lock, HostThread> lastHolder = new HashMap<>();
    private HostThread stopped;
    private Lock wanted;
    private int turns;

    private record Lock(Object owner, long where) {
    }

    @Override public HostThread atSwitchPoint(HostThread current, SwitchPoint point, Object owner, long where,
            List<HostThread> runnable) {
        if (current == stopped) {
            stopped = null; // nobody else could run
        }
        return switch (point) {
            case TRY_LOCK -> beforeTry(current, new Lock(owner, where), runnable);
            case LOCKED -> afterTry(current, new Lock(owner, where));
            default -> point.givesWay() ? next(current, runnable) : current;
        };
    }

    private HostThread beforeTry(HostThread current, Lock lock, List<HostThread> runnable) {
        var other = lastHolder.get(lock);
        if (stopped != null || other == null || other.id() >= current.id() || !runnable.contains(other)) {
            return current;
        }
        stopped = current;
        wanted = lock;
        turns = 0;
        return other;
    }

    private HostThread afterTry(HostThread current, Lock lock) {
        lastHolder.put(lock, current);
        if (stopped == null || !lock.equals(wanted)) {
            return current;
        }
        var goesOn = stopped;
        stopped = null;
        return goesOn;
    }

    @Override public HostThread next(HostThread previous, List<HostThread> runnable) {
        if (stopped != null && ++turns > PATIENCE) {
            stopped = null;
        }
        var chosen = order.next(previous, runnable);
        return chosen == stopped ? order.next(chosen, runnable) : chosen;
    }

    @Override public boolean explores() {
        return true;
    }
}
