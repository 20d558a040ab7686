package cloister.vmm.mmu;

import cloister.sim.HostThread;
import cloister.sim.SchedulingStrategy;
import cloister.sim.SwitchObserver;
import cloister.sim.SwitchPoint;
import java.util.List;

/// A random walk that starts anew with each step, so that a step is interleaved the same whatever steps precede it. A step that does
/// not end is a finding.
final class StepWalk implements SchedulingStrategy, SwitchObserver {
    static final String NO_END = "a step does not end";
    private static final int[] ONE_IN = {1, 2, 4, 12, 40};
    /// Points without progress that nobody needs who gets anywhere, and points of a step with all its progress.
    private static final int MAX_IDLE = 60_000;
    private static final int MAX_POINTS = 3_000_000;
    private static final int VP_ENTER = 0;
    private static final int LEAF = 0xffff;

    private long state;
    private int oneIn = 1;
    private int points;
    private int idle;

    /// A step begins.
    void restart(long seed) {
        state = seed;
        oneIn = ONE_IN[(int) Math.floorMod(seed, (long) ONE_IN.length)];
        points = 0;
        idle = 0;
    }

    /// SplitMix64.
    private int draw(int bound) {
        state += 0x9e3779b97f4a7c15L;
        long z = (state ^ (state >>> 30)) * 0xbf58476d1ce4e5b9L;
        z = (z ^ (z >>> 27)) * 0x94d049bb133111ebL;
        return (int) Long.remainderUnsigned(z ^ (z >>> 31), bound);
    }

    /// Also sees the points of a thread that is alone, about which nobody asks. Whoever changes an entry of page tables, or makes the TDX
    /// module do something other than to enter a guest, gets somewhere.
    @Override public void reached(HostThread current, SwitchPoint point, Object owner, long where) {
        if (current == null) {
            return;
        }
        points++;
        idle = point == SwitchPoint.SPTE_CHANGE || (point == SwitchPoint.SEAMCALL_EXIT && (where & LEAF) != VP_ENTER) ? 0 : idle + 1;
        if (idle > MAX_IDLE || points > MAX_POINTS) {
            points = 0;
            idle = 0;
            throw new MmuFinding(NO_END + ": " + current.name() + " at " + point);
        }
    }

    @Override public HostThread atSwitchPoint(HostThread current, SwitchPoint point, Object owner, long where,
            List<HostThread> runnable) {
        if (point.givesWay()) {
            int at = draw(runnable.size() - 1);
            return runnable.get(runnable.get(at).id() < current.id() ? at : at + 1);
        }
        return draw(oneIn) == 0 ? runnable.get(draw(runnable.size())) : current;
    }

    @Override public HostThread next(HostThread previous, List<HostThread> runnable) {
        return runnable.get(draw(runnable.size()));
    }
}
