package cloister.kvm.mmu;

import cloister.kvm.host.FrameAllocator;
import cloister.memory.AtomicWords;
import cloister.memory.HostMemory;
import cloister.memory.PhysicalMemory;
import cloister.sim.Scheduler;
import cloister.sim.SwitchPoint;
import java.util.ArrayDeque;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;

/// The frames that hold a VM's page tables, and what KVM knows of each. Every entry is read and changed here.
///
/// A change that may race with others is a compare-and-set, exchange or clearing of bits; the switch point stands before it, so that an
/// exploration finds the entry changed under who read it. A page that was unlinked is freed when no walk is under way that may still
/// hold it. [LINUX "RCU protection of TDP MMU pages"]
final class PageTables {
    static final int ENTRIES = 512;
    private static final int GROUP_SHIFT = 10;
    private static final int GROUP_MASK = (1 << GROUP_SHIFT) - 1;

    private final HostMemory memory;
    private final FrameAllocator frames;
    private final AtomicWords words;
    private final MmuPage[][] byFrame;
    private final byte[] empty = new byte[(int) PhysicalMemory.FRAME_SIZE];
    /// Objects of freed pages, used again: building tables makes no garbage.
    private final ArrayDeque<MmuPage> spare = new ArrayDeque<>();
    private final ArrayDeque<MmuPage> unlinked = new ArrayDeque<>();
    private int walks;
    private long pages;

    PageTables(HostMemory memory, FrameAllocator frames, Scheduler scheduler) {
        this.memory = memory;
        this.frames = frames;
        this.words = memory.atomics(scheduler, SwitchPoint.SPTE_CHANGE);
        this.byFrame = new MmuPage[(int) (memory.size() >>> (PhysicalMemory.FRAME_SHIFT + GROUP_SHIFT)) + 1][];
        var words = ByteBuffer.wrap(empty).order(ByteOrder.LITTLE_ENDIAN).asLongBuffer();
        for (int i = 0; i < ENTRIES; i++) {
            words.put(i, Spte.NONPRESENT);
        }
    }

    /// Page-table pages that exist, without those that wait for walks to end.
    long pages() {
        return pages;
    }

    /// A page without present entries that nothing links yet.
    ///
    /// @throws cloister.kvm.KvmException ENOMEM
    MmuPage allocate(int role, long gfn, MmuPage parent, int parentIndex) {
        long pa = frames.allocate();
        memory.write(pa, empty, 0, empty.length);
        var page = spare.isEmpty() ? new MmuPage() : spare.pop();
        page.role = role;
        page.gfn = gfn;
        page.tablePa = pa;
        page.externalPa = 0;
        page.parent = parent;
        page.parentIndex = parentIndex;
        page.rootCount = 0;
        page.scheduledToZap = false;
        page.nxHugePageDisallowed = false;
        page.possibleNxHugePage = false;
        page.shadow = null;
        long frame = pa >>> PhysicalMemory.FRAME_SHIFT;
        int group = (int) (frame >>> GROUP_SHIFT);
        if (byFrame[group] == null) {
            byFrame[group] = new MmuPage[1 << GROUP_SHIFT];
        }
        byFrame[group][(int) frame & GROUP_MASK] = page;
        pages++;
        return page;
    }

    /// The page whose entries lie at `tablePa`.
    MmuPage at(long tablePa) {
        long frame = tablePa >>> PhysicalMemory.FRAME_SHIFT;
        return byFrame[(int) (frame >>> GROUP_SHIFT)][(int) frame & GROUP_MASK];
    }

    /// The page that the present, non-leaf entry `spte` links.
    MmuPage child(long spte) {
        return at(Spte.address(spte));
    }

    /// Frees a page that nothing links any more, once no walk may hold it.
    void free(MmuPage page) {
        pages--;
        if (walks != 0) {
            unlinked.add(page);
        } else {
            release(page);
        }
    }

    private void release(MmuPage page) {
        long frame = page.tablePa >>> PhysicalMemory.FRAME_SHIFT;
        byFrame[(int) (frame >>> GROUP_SHIFT)][(int) frame & GROUP_MASK] = null;
        frames.free(page.tablePa);
        page.parent = null;
        spare.push(page);
    }

    /// Before following links without holding mmu_lock exclusively. [LINUX rcu_read_lock]
    void beginWalk() {
        walks++;
    }

    /// After it.
    void endWalk() {
        if (--walks == 0) {
            for (var page = unlinked.poll(); page != null; page = unlinked.poll()) {
                release(page);
            }
        }
    }

    /// A frame for the external tables.
    ///
    /// @throws cloister.kvm.KvmException ENOMEM
    long allocateExternal() {
        return frames.allocate();
    }

    void freeExternal(long pa) {
        frames.free(pa);
    }

    static int index(long gfn, int level) {
        return (int) (gfn >>> (9 * (level - 1))) & (ENTRIES - 1);
    }

    /// Guest frames that one entry of `level` covers.
    static long span(int level) {
        return 1L << (9 * (level - 1));
    }

    long read(MmuPage page, int index) {
        return memory.read(page.tablePa + (8L * index), 8);
    }

    /// Stores into an entry that nobody else may change now: the page is not linked, the entry is frozen by the caller, or mmu_lock is
    /// held exclusively and the entry has no bits that change without it.
    void write(MmuPage page, int index, long spte) {
        memory.write(page.tablePa + (8L * index), 8, spte);
    }

    /// Stores `spte` when the entry is still `expected`.
    ///
    /// @return whether it was
    boolean compareAndSet(MmuPage page, int index, long expected, long spte) {
        return words.compareAndSet(page.tablePa + (8L * index), 8, expected, spte);
    }

    /// Stores `spte`.
    ///
    /// @return what was there
    long exchange(MmuPage page, int index, long spte) {
        return words.exchange(page.tablePa + (8L * index), 8, spte);
    }

    /// Clears `bits`.
    ///
    /// @return what was there
    long clearBits(MmuPage page, int index, long bits) {
        return words.fetchAnd(page.tablePa + (8L * index), 8, ~bits);
    }

    /// Fills a page that is not linked yet.
    void fill(MmuPage page, long[] sptes) {
        for (int i = 0; i < ENTRIES; i++) {
            write(page, i, sptes[i]);
        }
    }

}
