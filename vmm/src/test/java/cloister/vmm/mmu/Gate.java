package cloister.vmm.mmu;

import cloister.sim.HostThread;
import cloister.sim.SchedulingStrategy;
import cloister.sim.SwitchPoint;
import java.util.HashMap;
import java.util.List;
import java.util.Map;

/// Round robin under which a test can stop a host thread in the TDX module, with the locks that it has taken so far. It goes on when the
/// test lets it, or when the others have had their turns and come no further without it.
public final class Gate implements SchedulingStrategy {
    /// Instead of a SEAMCALL's leaf: what the TDX module does for the guest that runs.
    public static final long GUEST = -1;
    private static final long LEAF = 0xffff;
    private static final int TURNS = 1000;

    private final Map<HostThread, Place> places = new HashMap<>();
    private String wanted;
    private long wantedLeaf;
    private int wantedLock;
    private HostThread held;
    private int turns;

    /// Where in the TDX module a host thread is.
    private static final class Place {
        long leaf;
        int locks;
    }

    /// Stops `thread` when it has taken the `lock`th lock of its next `leaf`.
    public void holdAt(String thread, long leaf, int lock) {
        wanted = thread;
        wantedLeaf = leaf;
        wantedLock = lock;
    }

    /// Whether somebody has been stopped and not gone on.
    public boolean isHolding() {
        return held != null;
    }

    /// Lets the stopped thread go on.
    public void release() {
        held = null;
    }

    @Override public HostThread atSwitchPoint(HostThread current, SwitchPoint point, Object owner, long where,
            List<HostThread> runnable) {
        if (current == held) {
            held = null; // nobody else could run
        }
        var place = places.computeIfAbsent(current, t -> new Place());
        if (point == SwitchPoint.SEAMCALL_ENTRY || point == SwitchPoint.VM_ENTRY) {
            place.leaf = point == SwitchPoint.VM_ENTRY ? GUEST : where & LEAF;
            place.locks = 0;
        }
        if (point == SwitchPoint.LOCKED && ++place.locks == wantedLock && place.leaf == wantedLeaf && current.name().equals(wanted)) {
            wanted = null;
            held = current;
            turns = 0;
        }
        return point.givesWay() || current == held ? next(current, runnable) : current;
    }

    @Override public HostThread next(HostThread previous, List<HostThread> runnable) {
        if (held != null && ++turns == TURNS) {
            held = null;
        }
        HostThread first = null;
        for (var thread : runnable) {
            if (thread != held && thread.id() > previous.id()) {
                return thread;
            }
            if (thread != held && first == null) {
                first = thread;
            }
        }
        return first == null ? previous : first;
    }

    @Override public boolean explores() {
        return true;
    }
}
