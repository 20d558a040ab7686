package cloister.kvm.mmu;

import cloister.kvm.host.AnonymousMemory;
import cloister.kvm.host.FrameAllocator;
import cloister.kvm.host.Lockdep;
import cloister.kvm.host.RwLock;
import cloister.memory.PhysicalMemory;
import cloister.sim.Scheduler;
import cloister.sim.SwitchPoint;
import cloister.spec.vmx.Ept;
import java.util.function.LongConsumer;

/// The two-dimensional-paging MMU of one VM: a direct root, and for a TD the mirror root of its Secure EPT. [LINUX
/// arch/x86/kvm/mmu/tdp_mmu.c]
///
/// Faults hold the lock shared, zapping holds it exclusively.
public final class TdpMmu {
    public static final int ACCESS_READ = 1;
    public static final int ACCESS_WRITE = 2;
    public static final int ACCESS_FETCH = 4;
    private static final long PAGES_PER_2M = 512;

    private final PhysicalMemory memory;
    private final FrameAllocator frames;
    private final AnonymousMemory userMemory;
    private final Scheduler scheduler;
    private final MemSlots slots;
    private final MemoryAttributes attributes;
    private final Runnable flushRemoteTlbs;
    private final RwLock lock;
    private TdpRoot direct;
    private TdpRoot mirror;
    private ExternalPageTables external;
    private boolean ignoreGuestPat = true;
    private long tdSharedBit;
    private boolean tdMmio;
    private long lostPages;

    /// @param flushRemoteTlbs makes every vCPU drop its translations before it runs on; called with the lock held
    public TdpMmu(PhysicalMemory memory, FrameAllocator frames, AnonymousMemory userMemory, Scheduler scheduler, Lockdep lockdep,
                  MemSlots slots, MemoryAttributes attributes, Runnable flushRemoteTlbs) {
        this.memory = memory;
        this.frames = frames;
        this.userMemory = userMemory;
        this.scheduler = scheduler;
        this.slots = slots;
        this.attributes = attributes;
        this.flushRemoteTlbs = flushRemoteTlbs;
        this.lock = new RwLock(lockdep, lockdep.spinning("mmu_lock"), "");
    }

    /// Makes the root of an ordinary VM.
    public void createDirectRoot(int level) {
        direct = new TdpRoot(memory, frames, level, false, 0);
    }

    /// Makes the roots of a TD.
    ///
    /// @param level     4 or 5, as the TD's GPAW says
    /// @param sharedBit the SHARED bit of a guest-physical address
    public void createTdRoots(int level, long sharedBit, ExternalPageTables secureEpt) {
        external = secureEpt;
        tdSharedBit = sharedBit;
        tdMmio = true;
        ignoreGuestPat = false;
        direct = new TdpRoot(memory, frames, level, false, sharedBit >>> PhysicalMemory.FRAME_SHIFT);
        mirror = new TdpRoot(memory, frames, level, true, 0);
    }

    /// Whether the roots exist.
    public boolean hasRoots() {
        return direct != null;
    }

    /// The physical address of the direct root.
    public long directRootPa() {
        return direct.rootPa;
    }

    /// The EPT pointer of the direct root: write-back, accessed and dirty flags on. [SDM Vol. 3 "EPT Pointer"]
    public long eptp() {
        return direct.rootPa | Ept.TYPE_WB | ((long) (direct.level - 1) << 3) | Ept.EPTP_ACCESSED_DIRTY;
    }

    /// Pages that [ExternalPageTables] did not give back.
    public long lostPages() {
        return lostPages;
    }

    /// Handles an access to `gpa` (without SHARED bit) that the tables do not allow.
    ///
    /// @param access    ACCESS_ bits
    /// @param isPrivate whether the access goes through the mirror root
    public FaultResult fault(long gpa, int access, boolean isPrivate) {
        lock.lockShared();
        try {
            return faultLocked(gpa >>> PhysicalMemory.FRAME_SHIFT, access, isPrivate);
        } finally {
            lock.unlockShared();
        }
    }

    private FaultResult faultLocked(long gfn, int access, boolean isPrivate) {
        if (mirror != null && isPrivate != attributes.isPrivate(gfn)) {
            return FaultResult.MEMORY_FAULT;
        }
        var slot = slots.find(gfn);
        if (slot == null) {
            if (isPrivate) {
                return FaultResult.MEMORY_FAULT;
            }
            installMmio(gfn);
            return FaultResult.EMULATE;
        }
        if (isPrivate) {
            if (slot.gmem() == null) {
                return FaultResult.MEMORY_FAULT;
            }
            return map(mirror, gfn, slot.gmem().fault(slot.gmemIndex(gfn)), 1, true);
        }
        if (slot.readOnly() && (access & ACCESS_WRITE) != 0) {
            return FaultResult.EMULATE;
        }
        long pa = userMemory.fault(slot.hva(gfn));
        return map(direct, gfn, pa, maxLevel(slot, gfn), !slot.readOnly());
    }

    private int maxLevel(MemSlot slot, long gfn) {
        long first = gfn & -PAGES_PER_2M;
        boolean fits = first >= slot.baseGfn() && first + PAGES_PER_2M <= slot.baseGfn() + slot.npages()
                && (slot.hva(first) & (FrameAllocator.BLOCK_SIZE - 1)) == 0 && userMemory.isBlock(slot.hva(first))
                && (mirror == null || attributes.isUniform(first, first + PAGES_PER_2M));
        return fits ? 2 : 1;
    }

    private FaultResult map(TdpRoot root, long gfn, long pa, int wantedLevel, boolean writable) {
        long g = gfn | root.gfnBits;
        long table = root.rootPa;
        int goal = wantedLevel;
        for (int at = root.level;; at--) {
            int index = TdpRoot.index(g, at);
            long spte = root.read(table, index);
            if (spte == Spte.FROZEN) {
                return FaultResult.RETRY;
            }
            boolean present = Spte.isPresent(spte);
            if (at == goal && (!present || Spte.isLeaf(spte, at))) {
                return setLeaf(root, table, index, spte, gfn, at, pa, writable);
            }
            if (present && Spte.isLeaf(spte, at)) {
                // A larger page is mapped here, as it should be.
                return FaultResult.SPURIOUS;
            }
            if (!present) {
                var result = link(root, table, index, spte, gfn, at);
                if (result != FaultResult.FIXED) {
                    return result;
                }
                spte = root.read(table, index);
            } else if (at == goal) {
                goal--; // a table of smaller pages exists already: stay with them
            }
            table = Spte.address(spte);
        }
    }

    private FaultResult setLeaf(TdpRoot root, long table, int index, long old, long gfn, int level, long pa,
                                boolean writable) {
        long pagePa = level == 1 ? pa : pa & -FrameAllocator.BLOCK_SIZE;
        long spte = Spte.leaf(pagePa, level, writable, ignoreGuestPat);
        if (old == spte) {
            return FaultResult.SPURIOUS;
        }
        if (!root.isMirror()) {
            root.write(table, index, spte);
            scheduler.switchPoint(SwitchPoint.SPTE_CHANGE);
            return FaultResult.FIXED;
        }
        if (Spte.isPresent(old)) {
            return FaultResult.SPURIOUS;
        }
        root.write(table, index, Spte.FROZEN);
        return commit(root, table, index, old, spte, external.mapLeaf(gfn, level, pagePa));
    }

    private FaultResult link(TdpRoot root, long table, int index, long old, long gfn, int at) {
        long child = root.allocateTable();
        if (!root.isMirror()) {
            root.write(table, index, Spte.nonLeaf(child));
            scheduler.switchPoint(SwitchPoint.SPTE_CHANGE);
            return FaultResult.FIXED;
        }
        long externalPa = frames.allocate();
        root.write(table, index, Spte.FROZEN);
        long span = 1L << (9 * (at - 1));
        var result = commit(root, table, index, old, Spte.nonLeaf(child),
                external.linkTable(gfn & -span, at, externalPa));
        if (result == FaultResult.FIXED) {
            root.externalTables.put(child, externalPa);
        } else {
            frames.free(externalPa);
            frames.free(child);
        }
        return result;
    }

    private FaultResult commit(TdpRoot root, long table, int index, long old, long spte,
                               ExternalPageTables.Result result) {
        root.write(table, index, result == ExternalPageTables.Result.DONE ? spte : old);
        scheduler.switchPoint(SwitchPoint.SPTE_CHANGE);
        return switch (result) {
            case DONE -> FaultResult.FIXED;
            case BUSY -> FaultResult.RETRY;
            case FAILED -> FaultResult.BUGGED;
        };
    }

    private void installMmio(long gfn) {
        long g = gfn | direct.gfnBits;
        long table = direct.rootPa;
        for (int at = direct.level; at > 1; at--) {
            int index = TdpRoot.index(g, at);
            long spte = direct.read(table, index);
            if (!Spte.isPresent(spte)) {
                spte = Spte.nonLeaf(direct.allocateTable());
                direct.write(table, index, spte);
            } else if (Spte.isLeaf(spte, at)) {
                return; // a stale large page: its zap is under way
            }
            table = Spte.address(spte);
        }
        direct.write(table, TdpRoot.index(g, 1), tdMmio ? Spte.TD_MMIO_VALUE
                : Spte.mmio(gfn << PhysicalMemory.FRAME_SHIFT, slots.generation()));
    }

    /// Whether the EPT misconfiguration at `gpa` is a cached MMIO entry of the current slots.
    public boolean isCachedMmio(long gpa) {
        long spte = direct.lookUp(gpa >>> PhysicalMemory.FRAME_SHIFT);
        return Spte.isMmio(spte) && Spte.isCurrentMmio(spte, slots.generation());
    }

    /// Whether the mirror root maps `gpa`.
    public boolean isPrivateMapped(long gpa) {
        return Spte.isPresent(mirror.lookUp(gpa >>> PhysicalMemory.FRAME_SHIFT));
    }

    /// Unmaps the shared (or only) mappings of guest frames `[first, end)`.
    public void zapDirect(long first, long end) {
        if (direct == null) {
            return;
        }
        lock.lockExclusive();
        try {
            boolean[] changed = {false};
            direct.forEachLeaf(first, end, (table, index, gfn, level, spte) -> {
                direct.write(table, index, Spte.NONPRESENT);
                changed[0] = true;
            });
            if (changed[0]) {
                flushRemoteTlbs.run();
            }
        } finally {
            lock.unlockExclusive();
        }
    }

    /// Unmaps private guest frames `[first, end)`.
    ///
    /// @param lost told the frames that the Secure EPT did not give back
    public void zapMirror(long first, long end, LongConsumer lost) {
        if (mirror == null) {
            return;
        }
        lock.lockExclusive();
        try {
            mirror.forEachLeaf(first, end, (table, index, gfn, level, spte) -> {
                mirror.write(table, index, Spte.FROZEN);
                boolean returned = external.removeLeaf(gfn, level, Spte.address(spte));
                mirror.write(table, index, Spte.NONPRESENT);
                scheduler.switchPoint(SwitchPoint.SPTE_CHANGE);
                if (!returned) {
                    lostPages++;
                    lost.accept(gfn);
                }
            });
        } finally {
            lock.unlockExclusive();
        }
    }

    /// Frees all tables. Called when no vCPU exists any more and, for a TD, its KeyID is free.
    public void destroy() {
        if (direct != null) {
            direct.free(null);
            direct = null;
        }
        if (mirror != null) {
            lostPages += mirror.free(external);
            mirror = null;
        }
    }

    /// The SHARED bit of a TD's guest-physical addresses, 0 for an ordinary VM.
    public long sharedBit() {
        return tdSharedBit;
    }
}
