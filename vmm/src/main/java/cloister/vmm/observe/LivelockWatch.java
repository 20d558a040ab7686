package cloister.vmm.observe;

import cloister.sim.HostThread;
import cloister.sim.SwitchObserver;
import cloister.sim.SwitchPoint;
import cloister.sim.VirtualClock;
import cloister.spec.tdx.SeamRegs;
import cloister.spec.tdx.SeamcallLeaf;
import cloister.spec.tdx.TdxStatus;
import java.util.ArrayList;
import java.util.EnumSet;
import java.util.Set;
import java.util.TreeMap;

/// Notices when host threads wait for each other for ever although they run: over and over one gives way, and nothing comes of it. No
/// guest retires an instruction, no time passes, and no SEAMCALL changes memory or makes anything: those on vCPUs do not count, as each
/// attempt to enter has some, and TDH.VP.ENTER may come back without having entered.
/// It looks only; [Livelock] is how it says what it found, once.
public final class LivelockWatch implements SwitchObserver {
    /// Times that somebody gave way in vain. A kick of all vCPUs takes a few; a livelock has no end.
    public static final int LIMIT = 100_000;
    private static final int LEAF = 0xffff;
    private static final Set<SeamcallLeaf> IN_VAIN = EnumSet.of(SeamcallLeaf.VP_RD, SeamcallLeaf.VP_WR, SeamcallLeaf.VP_FLUSH);

    private final VirtualClock clock;
    private final SwitchObserver next;
    private final int limit;
    private final ArrayList<Deeds> deeds = new ArrayList<>();
    private long since;
    private int fruitless;
    private boolean told;

    /// What a host thread did since something last came of it.
    private static final class Deeds {
        String name;
        int gaveWay;
        int entries;
        final TreeMap<String, Integer> busy = new TreeMap<>();

        @Override public String toString() {
            var text = new StringBuilder(name);
            busy.forEach((call, count) -> text.append(", ").append(call).append(" BUSY ").append(count).append(" times"));
            if (entries != 0) {
                text.append(", TDH.VP.ENTER ").append(entries).append(" times");
            }
            return text + ", gave way " + gaveWay + " times";
        }
    }

    /// @param next  who else sees the switch points, or null
    /// @param limit [#LIMIT], or less where waits are known to be short
    public LivelockWatch(VirtualClock clock, SwitchObserver next, int limit) {
        this.clock = clock;
        this.limit = limit;
        this.next = next;
    }

    @Override public void reached(HostThread thread, SwitchPoint kind, Object owner, long where) {
        if (next != null) {
            next.reached(thread, kind, owner, where);
        }
        if (kind != SwitchPoint.YIELD || thread == null) {
            return;
        }
        if (clock.now() != since) {
            progress();
        }
        of(thread).gaveWay++;
        if (++fruitless >= limit && !told) {
            told = true;
            throw new Livelock(report());
        }
    }

    /// A SEAMCALL has returned.
    ///
    /// @param thread whose, or null outside a run
    /// @param rax    the leaf
    public void returned(HostThread thread, long rax, SeamRegs regs) {
        if (fruitless == 0 || thread == null) {
            return;
        }
        long status = regs.get(SeamRegs.RAX);
        var leaf = SeamcallLeaf.of((int) rax & LEAF);
        if (leaf == null) {
            return;
        }
        if (TdxStatus.OPERAND_BUSY.matches(status)) {
            of(thread).busy.merge(leaf.specificationName(), 1, Integer::sum);
        } else if (leaf == SeamcallLeaf.VP_ENTER) {
            of(thread).entries++;
        } else if (!IN_VAIN.contains(leaf) && !TdxStatus.isError(status)) {
            progress();
        }
    }

    private void progress() {
        since = clock.now();
        if (fruitless != 0) {
            fruitless = 0;
            deeds.clear();
        }
    }

    private Deeds of(HostThread thread) {
        while (deeds.size() <= thread.id()) {
            deeds.add(new Deeds());
        }
        var own = deeds.get(thread.id());
        own.name = thread.name();
        return own;
    }

    private String report() {
        var text = new StringBuilder("livelock: host threads gave way " + fruitless + " times, and nothing came of it");
        deeds.stream().filter(d -> d.gaveWay != 0 || d.entries != 0 || !d.busy.isEmpty()).forEach(d -> text.append("; ").append(d));
        return text.toString();
    }
}
