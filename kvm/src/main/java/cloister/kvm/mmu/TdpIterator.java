package cloister.kvm.mmu;

/// Goes through the entries of a tree that concern a range of guest frames, an entry before what it links. [LINUX struct tdp_iter]
///
/// The entry is read when it is reached; who changes it by compare-and-set reads it again with [#refresh] when that failed.
final class TdpIterator {
    private final PageTables tables;
    private final MmuPage[] path = new MmuPage[6];
    private int rootLevel;
    private int minLevel;
    private long end;
    private long rootBits;
    /// The frame at which the walk goes on.
    private long goal;
    private boolean fresh;
    int level;
    int index;
    /// The first frame of the entry, without the SHARED bit.
    long gfn;
    long spte;

    TdpIterator(PageTables tables) {
        this.tables = tables;
    }

    /// @param minLevel entries below are not visited
    /// @param rootBits what the tree has in the frame numbers beside the guest's
    TdpIterator start(MmuPage root, int lowest, long firstGfn, long endGfn, long bitsOfRoot) {
        rootLevel = root.level();
        minLevel = lowest;
        rootBits = bitsOfRoot;
        goal = firstGfn | bitsOfRoot;
        end = Math.min(endGfn, PageTables.span(rootLevel + 1) - bitsOfRoot) + bitsOfRoot;
        path[rootLevel] = root;
        restart();
        return this;
    }

    private void restart() {
        level = rootLevel;
        fresh = true;
    }

    private void load() {
        index = PageTables.index(goal, level);
        gfn = (goal & -PageTables.span(level)) & ~rootBits;
        spte = tables.read(path[level], index);
    }

    /// The page that holds the entry.
    MmuPage table() {
        return path[level];
    }

    /// Reads the entry again.
    void refresh() {
        spte = tables.read(path[level], index);
    }

    /// Others may have changed the tree meanwhile: goes on behind the entry, from the root.
    void restartAfterEntry() {
        goal = ((gfn | rootBits) & -PageTables.span(level)) + PageTables.span(level);
        restart();
    }

    /// Goes to the next entry.
    ///
    /// @return false when there is none
    boolean next() {
        if (fresh) {
            fresh = false;
            if (goal >= end) {
                return false;
            }
            load();
            return true;
        }
        if (level > minLevel) {
            refresh();
            if (Spte.isPresent(spte) && !Spte.isLeaf(spte, level)) {
                path[level - 1] = tables.child(spte);
                level--;
                load();
                return true;
            }
        }
        while (index == PageTables.ENTRIES - 1) {
            if (level == rootLevel) {
                return false;
            }
            level++;
            index = PageTables.index(goal, level);
        }
        goal = (goal & -PageTables.span(level)) + PageTables.span(level);
        if (goal >= end) {
            return false;
        }
        load();
        return true;
    }
}
