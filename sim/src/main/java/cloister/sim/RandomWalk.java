package cloister.sim;

import java.util.List;

/// Switches at random: at each point, with the chance given, to a host thread drawn from the runnable ones. Where a thread gives
/// way, always to another one, so that a wait for somebody else ends.
public final class RandomWalk implements SchedulingStrategy {
    private final Entropy entropy;
    private final int oneIn;

    /// @param seed  repeats the walk
    /// @param oneIn one point in how many switches, at least 1 (1: every point is a draw)
    public RandomWalk(long seed, int oneIn) {
        if (oneIn < 1) {
            throw new IllegalArgumentException("one point in " + oneIn);
        }
        this.entropy = new Entropy(seed).stream("schedule");
        this.oneIn = oneIn;
    }

    @Override public HostThread atSwitchPoint(HostThread current, SwitchPoint point, Object owner, long where,
            List<HostThread> runnable) {
        if (point.givesWay()) {
            int at = entropy.nextInt(runnable.size() - 1);
            return runnable.get(runnable.get(at).id() < current.id() ? at : at + 1);
        }
        return entropy.nextInt(oneIn) == 0 ? draw(runnable) : current;
    }

    @Override public HostThread next(HostThread previous, List<HostThread> runnable) {
        return draw(runnable);
    }

    @Override public boolean explores() {
        return true;
    }

    private HostThread draw(List<HostThread> runnable) {
        return runnable.get(entropy.nextInt(runnable.size()));
    }
}
