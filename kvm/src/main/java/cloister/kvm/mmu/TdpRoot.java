package cloister.kvm.mmu;

import cloister.kvm.host.FrameAllocator;
import cloister.memory.PhysicalMemory;
import cloister.spec.vmx.Ept;
import java.util.HashMap;
import java.util.Map;

/// One tree of TDP page tables in platform frames: walked by processors (direct root), or the mirror of a Secure EPT.
final class TdpRoot {
    static final int ENTRIES = 512;

    final int level;
    final long rootPa;
    /// The external table behind each mirror table, by the mirror table's address; null for a direct root.
    final Map<Long, Long> externalTables;
    /// What bit 47 or 51 of the frame numbers in this tree is: set for the shared tree of a TD. [LINUX kvm_gfn_root_bits]
    final long gfnBits;
    private final PhysicalMemory memory;
    private final FrameAllocator frames;

    TdpRoot(PhysicalMemory memory, FrameAllocator frames, int level, boolean mirror, long gfnBits) {
        this.memory = memory;
        this.frames = frames;
        this.level = level;
        this.gfnBits = gfnBits;
        this.externalTables = mirror ? new HashMap<>() : null;
        this.rootPa = allocateTable();
    }

    boolean isMirror() {
        return externalTables != null;
    }

    /// A table without present entries.
    long allocateTable() {
        long pa = frames.allocate();
        for (int i = 0; i < ENTRIES; i++) {
            memory.write(pa + 8L * i, 8, Spte.NONPRESENT);
        }
        return pa;
    }

    static int index(long gfn, int level) {
        return (int) (gfn >>> (9 * (level - 1))) & (ENTRIES - 1);
    }

    long read(long tablePa, int index) {
        return memory.readPlain(tablePa + 8L * index, 8);
    }

    void write(long tablePa, int index, long spte) {
        memory.write(tablePa + 8L * index, 8, spte);
    }

    /// The leaf entry for `gfn`, or the last entry that the walk reached.
    long lookUp(long gfn) {
        long g = gfn | gfnBits;
        long table = rootPa;
        for (int at = level;; at--) {
            long spte = read(table, index(g, at));
            if (!Spte.isPresent(spte) || Spte.isLeaf(spte, at)) {
                return spte;
            }
            table = Spte.address(spte);
        }
    }

    /// Called for each present leaf: the table and index that hold it.
    @FunctionalInterface
    interface LeafVisitor {
        void visit(long tablePa, int index, long gfn, int level, long spte);
    }

    /// Visits the leaves (and MMIO entries when `mmioToo`) that overlap `[first, end)`.
    void forEachLeaf(long first, long end, LeafVisitor visitor) {
        forEachLeaf(rootPa, level, 0, first | gfnBits, end | gfnBits, visitor);
    }

    private void forEachLeaf(long table, int at, long base, long first, long end, LeafVisitor visitor) {
        long span = 1L << (9 * (at - 1));
        int from = first <= base ? 0 : (int) Math.min(ENTRIES, (first - base) / span);
        for (int i = from; i < ENTRIES; i++) {
            long gfn = base + i * span;
            if (gfn >= end) {
                return;
            }
            long spte = read(table, i);
            if (spte == Spte.NONPRESENT) {
                continue;
            }
            if (!Spte.isPresent(spte) || Spte.isLeaf(spte, at)) {
                visitor.visit(table, i, gfn & ~gfnBits, at, spte);
            } else {
                forEachLeaf(Spte.address(spte), at - 1, gfn, first, end, visitor);
            }
        }
    }

    /// Frees the tables. Of a mirror, `external` takes the external tables back first, children before parents.
    ///
    /// @return how many external tables were lost
    long free(ExternalPageTables external) {
        return free(rootPa, level, external);
    }

    private long free(long table, int at, ExternalPageTables external) {
        long lost = 0;
        if (at > 1) {
            for (int i = 0; i < ENTRIES; i++) {
                long spte = read(table, i);
                if (Spte.isPresent(spte) && (spte & Ept.LARGE) == 0) {
                    lost += free(Spte.address(spte), at - 1, external);
                }
            }
        }
        if (externalTables != null) {
            var externalPa = externalTables.remove(table);
            if (externalPa != null) {
                if (external.reclaimTable(externalPa)) {
                    frames.free(externalPa);
                } else {
                    lost++;
                }
            }
        }
        frames.free(table);
        return lost;
    }
}
