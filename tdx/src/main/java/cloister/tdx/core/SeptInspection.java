package cloister.tdx.core;

import cloister.memory.PhysicalMemory;
import cloister.memory.plain.PlainAccess;
import cloister.spec.tdx.SeptState;
import cloister.tdx.inspect.Lock;
import cloister.tdx.inspect.SeptTable;
import cloister.tdx.inspect.SeptTable.SeptRange;
import java.util.ArrayList;
import java.util.List;

/// Reads a Secure EPT for a snapshot, behind the keys.
final class SeptInspection {
    private static final int ENTRIES = 512;

    private final PhysicalMemory memory;

    SeptInspection(PhysicalMemory memory) {
        this.memory = memory;
    }

    /// The root of the TD's own tree.
    SeptTable root(Tdcs tdcs) {
        return table(tdcs.rootLevel(), 0, page(tdcs.eptp()), false);
    }

    /// The root of the tree of L2 VM `vm`, from 1.
    SeptTable root(Tdr tdr, Tdcs tdcs, int vm) {
        return table(tdcs.rootLevel(), 0, page(tdcs.septp(tdr, vm)), true);
    }

    private static long page(long entry) {
        return PhysicalMemory.pa(SeptEntry.pa(entry));
    }

    private SeptTable table(int level, long gpa, long page, boolean l2) {
        var ranges = new ArrayList<SeptRange>();
        long bytes = 1L << (12 + 9 * level);
        for (int i = 0; i < ENTRIES; i++) {
            long entry = memory.readPlain(PlainAccess.SILICON, page + 8 * i, 8);
            var next = l2 ? l2Range(level, gpa + i * bytes, entry, bytes) : range(level, gpa + i * bytes, entry, bytes);
            var last = ranges.isEmpty() ? null : ranges.getLast();
            int step = last == null ? 0 : step(last, next, bytes);
            if (last != null && alike(last, next) && (step != 0 || (last.hpa() == 0 && next.hpa() == 0))) {
                ranges.set(ranges.size() - 1, new SeptRange(last.gpa(), next.end(), last.state(), last.hpa(), step, last.access(),
                        last.lock(), null));
            } else {
                ranges.add(next);
            }
        }
        return new SeptTable(SeptTable.LEVELS.get(level), gpa, page, List.copyOf(ranges));
    }

    private SeptRange range(int level, long gpa, long entry, long bytes) {
        var state = SeptState.of(entry);
        boolean maps = state != SeptState.FREE && state != SeptState.REMOVED;
        boolean below = level > 0 && (state == SeptState.NL_MAPPED || state == SeptState.NL_BLOCKED);
        long hpa = !maps ? 0 : below ? page(entry) : SeptEntry.leafPa(entry, 0, level) & ((1L << PhysicalMemory.KEY_ID_SHIFT) - 1);
        return new SeptRange(gpa, gpa + bytes, state == null ? "INVALID" : state.name(), hpa, 0, access(entry), lock(entry),
                below ? table(level - 1, gpa, hpa, false) : null);
    }

    /// Entries of an L2 VM's tree have no locks: those of the TD's tree stand for both.
    private SeptRange l2Range(int level, long gpa, long entry, long bytes) {
        boolean free = L2SeptEntry.isFree(entry);
        boolean leaf = !free && SeptEntry.isLeaf(entry);
        boolean below = !free && !leaf;
        String state = free ? "L2_FREE" : leaf ? L2SeptEntry.isMapped(entry) ? "L2_MAPPED" : "L2_BLOCKED"
                : L2SeptEntry.isBlockedNonLeaf(entry) ? "L2_NL_BLOCKED" : "L2_NL_MAPPED";
        long hpa = free ? 0 : leaf ? SeptEntry.leafPa(entry, 0, level) & ((1L << PhysicalMemory.KEY_ID_SHIFT) - 1) : page(entry);
        return new SeptRange(gpa, gpa + bytes, state, hpa, 0, access(entry) + ((entry & SeptEntry.XU) != 0 ? "u" : "-"), Lock.FREE,
                below && level > 0 ? table(level - 1, gpa, hpa, true) : null);
    }

    private static boolean alike(SeptRange last, SeptRange next) {
        return last.table() == null && next.table() == null && last.state().equals(next.state())
                && last.access().equals(next.access()) && last.lock().equals(next.lock());
    }

    /// How the pages of a range go on with the next entry's, 0 when they do not.
    private static int step(SeptRange last, SeptRange next, long bytes) {
        if (last.hpa() == 0 || next.hpa() == 0) {
            return 0;
        }
        long before = last.end() - bytes - last.gpa();
        if (last.step() >= 0 && next.hpa() == last.hpa() + before + bytes) {
            return 1;
        }
        return last.step() <= 0 && next.hpa() == last.hpa() - before - bytes ? -1 : 0;
    }

    private static String access(long entry) {
        return ((entry & SeptEntry.R) != 0 ? "r" : "-") + ((entry & SeptEntry.W) != 0 ? "w" : "-")
                + ((entry & SeptEntry.X) != 0 ? "x" : "-");
    }

    private static String lock(long entry) {
        boolean locked = (entry & SeptEntry.LOCK) != 0;
        boolean wanted = (entry & SeptEntry.HOST_PRIORITY) != 0;
        return locked ? wanted ? "exclusive, host priority" : "exclusive" : wanted ? "host priority" : Lock.FREE;
    }
}
