package cloister.tdx.core;

import cloister.memory.PhysicalMemory;
import cloister.memory.plain.PlainAccess;
import cloister.tdx.inspect.Lock;
import cloister.tdx.inspect.PamtRange;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;

/// Reads the PAMT for a snapshot. Reads memory behind the keys: a destroyed entry must not end the observer.
final class PamtInspection {
    private static final String[] SIZES = {"4K", "2M", "1G"};

    private final ModuleState module;
    private final List<PamtRange> ranges = new ArrayList<>();
    private final List<Lock> upperLocks = new ArrayList<>();
    // The range that grows.
    private long start;
    private long end;
    private long word;
    private long bepoch;
    private int size;

    PamtInspection(ModuleState module) {
        this.module = module;
    }

    List<PamtRange> ranges() {
        for (var tdmr : module.tdmrs) {
            long to = Math.min(tdmr.lastInitialized, tdmr.info.base() + tdmr.info.size());
            for (long pa = tdmr.info.base(); pa < to; pa += Pamt.bytes(Pamt.SIZE_1G)) {
                visit(tdmr, pa, Pamt.SIZE_1G, to);
            }
            flush();
        }
        return List.copyOf(ranges);
    }

    /// Locks of entries above the ranges that are not free; after [#ranges].
    List<Lock> upperLocks() {
        return List.copyOf(upperLocks);
    }

    /// The state of the lock of the 4 KiB page at `pa`.
    static String lockOf(ModuleState module, long pa) {
        for (var tdmr : module.tdmrs) {
            if (pa >= tdmr.info.base() && pa < tdmr.lastInitialized) {
                return Inspection.hostPriorityLock((int) entry(module, tdmr, pa, Pamt.SIZE_4K, 0) & 0xffff);
            }
        }
        return Lock.FREE;
    }

    private void visit(Tdmr tdmr, long pa, int level, long limit) {
        long entry = entry(module, tdmr, pa, level, 0);
        if (level == Pamt.SIZE_4K || type(entry) != PageType.NDA) {
            add(pa, level, entry, entry(module, tdmr, pa, level, Long.BYTES));
            return;
        }
        String lock = Inspection.hostPriorityLock((int) entry & 0xffff);
        if (!lock.equals(Lock.FREE)) {
            upperLocks.add(new Lock(String.format(Locale.ROOT, "PAMT_%s[0x%x]", SIZES[level], pa), lock, List.of()));
        }
        long to = Math.min(limit, pa + Pamt.bytes(level));
        for (long at = pa; at < to; at += Pamt.bytes(level - 1)) {
            visit(tdmr, at, level - 1, limit);
        }
    }

    private static long entry(ModuleState module, Tdmr tdmr, long pa, int level, int offset) {
        long hpa = tdmr.info.pamtBase()[level] + PamtEntry.BYTES * ((pa - tdmr.info.base()) >>> (12 + 9 * level));
        return module.memory.readPlain(PlainAccess.SILICON, PhysicalMemory.pa(hpa) + offset, 8);
    }

    private void add(long pa, int level, long entry, long epoch) {
        // Whom a free page belonged to does not count.
        boolean free = type(entry) == PageType.NDA;
        long value = free ? entry & 0xff_ffff : entry;
        long blocked = free ? 0 : epoch;
        if (start == end || pa != end || level != size || value != word || blocked != bepoch) {
            flush();
            start = pa;
            size = level;
            word = value;
            bepoch = blocked;
        }
        end = pa + Pamt.bytes(level);
    }

    private void flush() {
        if (start != end) {
            ranges.add(new PamtRange(start, end, PageType.name(type(word)), SIZES[size], word >>> 24 << 12,
                    bepoch, Inspection.hostPriorityLock((int) word & 0xffff)));
        }
        start = end;
    }

    private static int type(long entry) {
        return (int) (entry >>> 16) & 0xff;
    }
}
