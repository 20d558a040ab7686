package cloister.kvm.mmu;

import cloister.kvm.KvmException;
import cloister.kvm.UserMemoryRegion;
import cloister.kvm.host.GuestMemFile;
import cloister.kvm.host.ProcessMemory;
import cloister.sim.Persistent;
import cloister.sim.StateSink;
import cloister.spec.kvm.Errno;
import cloister.spec.kvm.KvmAbi;
import java.util.Arrays;
import java.util.List;

/// The memory slots of a VM: one set for each address space. A change makes a new set, puts it in place, waits until nobody looks at
/// the old one, and counts the generation on, which ages out cached MMIO. [LINUX kvm_set_memory_region]
public final class MemSlots implements Persistent {
    /// Slots that user space may have in one address space. (KVM_USER_MEM_SLOTS)
    public static final int USER_SLOTS = Short.MAX_VALUE - 3;
    private static final int ALL_SLOTS = Short.MAX_VALUE;
    private static final long MAX_PAGES = (1L << 31) - 1;
    private static final int PAGE_SHIFT = 12;
    private static final long PAGE_MASK = (1L << PAGE_SHIFT) - 1;

    /// What happens to a slot.
    enum Change { CREATE, DELETE, MOVE, FLAGS_ONLY }

    private final Mmu mmu;
    private final MemSlotSet[] active;
    private long totalPages;

    MemSlots(Mmu mmu, int addressSpaces) {
        this.mmu = mmu;
        this.active = new MemSlotSet[addressSpaces];
        for (int as = 0; as < addressSpaces; as++) {
            // The generations of the address spaces never meet: they start at their number and go on in steps of how many there are.
            active[as] = new MemSlotSet(new MemSlot[0], as);
        }
    }

    /// How many address spaces there are: 2, or 1 where private memory is.
    public int addressSpaces() {
        return active.length;
    }

    /// The set in use.
    MemSlotSet set(int addressSpace) {
        return active[addressSpace];
    }

    /// The generation of an address space, with [MemSlotSet#UPDATE_IN_PROGRESS] while it changes.
    public long generation(int addressSpace) {
        return addressSpace < active.length ? active[addressSpace].generation() : addressSpace;
    }

    /// Pages of all slots.
    long totalPages() {
        return totalPages;
    }

    /// The slot of guest frame `gfn` outside system-management mode, or null.
    public MemSlot find(long gfn) {
        return active[0].find(gfn);
    }

    /// The slot of guest frame `gfn` in an address space, or null. Where private memory is, system-management mode has no slots, although
    /// a vCPU may get there.
    MemSlot find(int addressSpace, long gfn) {
        return addressSpace < active.length ? active[addressSpace].find(gfn) : null;
    }

    /// KVM_SET_USER_MEMORY_REGION2; the caller holds slots_lock.
    ///
    /// @throws KvmException EINVAL, EEXIST, EBADF, ENOMEM as upstream, in upstream's order; nothing has changed then
    public void setUserRegion(UserMemoryRegion r) {
        require((r.slot() & 0xffff) < USER_SLOTS, Errno.EINVAL, "slot number " + (r.slot() & 0xffff));
        setRegion(r);
    }

    private void setRegion(UserMemoryRegion r) {
        checkArguments(r);
        int as = r.slot() >>> 16;
        int id = r.slot() & 0xffff;
        var set = active[as];
        var old = set.byId(id);
        if (r.memorySize() == 0) {
            require(old != null, Errno.EINVAL, "slot " + id + " does not exist");
            apply(old, null, Change.DELETE);
            return;
        }
        long baseGfn = r.guestPhysAddr() >>> PAGE_SHIFT;
        long npages = r.memorySize() >>> PAGE_SHIFT;
        var change = change(r, old, baseGfn, npages);
        if (change == null) {
            return;
        }
        if (change != Change.FLAGS_ONLY && set.overlaps(id, baseGfn, baseGfn + npages)) {
            throw new KvmException(Errno.EEXIST, "slot " + id + " overlaps another");
        }
        MemSlot slot;
        if (change == Change.FLAGS_ONLY) {
            slot = old.withFlags(r.flags());
        } else if ((r.flags() & KvmAbi.MEM_GUEST_MEMFD) != 0) {
            slot = bind(r, as, id, baseGfn, npages);
        } else {
            slot = new MemSlot(as, id, baseGfn, npages, r.userspaceAddr(), r.flags(), null, 0);
        }
        try {
            apply(old, slot, change);
        } catch (KvmException failed) {
            if (slot.gmem() != null) {
                slot.gmem().unbind(slot);
            }
            throw failed;
        }
    }

    private void checkArguments(UserMemoryRegion r) {
        int allowed = KvmAbi.MEM_LOG_DIRTY_PAGES | KvmAbi.MEM_GUEST_MEMFD;
        boolean gmem = (r.flags() & KvmAbi.MEM_GUEST_MEMFD) != 0;
        if (gmem) {
            allowed &= ~KvmAbi.MEM_LOG_DIRTY_PAGES;
        } else if (mmu.allowsReadOnlySlots()) {
            allowed |= KvmAbi.MEM_READONLY;
        }
        require((r.flags() & ~allowed) == 0, Errno.EINVAL, "flags 0x" + Integer.toHexString(r.flags()));
        long size = r.memorySize();
        require((size & PAGE_MASK) == 0, Errno.EINVAL, "size 0x" + Long.toHexString(size) + " is not whole pages");
        require((r.guestPhysAddr() & PAGE_MASK) == 0, Errno.EINVAL, "guest address is not page-aligned");
        require((r.userspaceAddr() & PAGE_MASK) == 0 && isUserRange(r.userspaceAddr(), size), Errno.EINVAL,
                "no user addresses: 0x" + Long.toHexString(r.userspaceAddr()));
        require(!gmem || ((r.guestMemfdOffset() & PAGE_MASK) == 0
                && Long.compareUnsigned(r.guestMemfdOffset() + size, r.guestMemfdOffset()) >= 0), Errno.EINVAL, "guest_memfd offset");
        require((r.slot() >>> 16) < active.length && (r.slot() & 0xffff) < ALL_SLOTS, Errno.EINVAL,
                "slot number 0x" + Integer.toHexString(r.slot()));
        require(Long.compareUnsigned(r.guestPhysAddr() + size, r.guestPhysAddr()) >= 0, Errno.EINVAL, "guest addresses wrap");
        require((r.slot() & 0xffff) >= USER_SLOTS || (size >>> PAGE_SHIFT) <= MAX_PAGES, Errno.EINVAL, "slot of too many pages");
    }

    private static boolean isUserRange(long address, long size) {
        return Long.compareUnsigned(size, ProcessMemory.END) <= 0 && Long.compareUnsigned(address, ProcessMemory.END - size) <= 0;
    }

    /// What becomes of slot `old` (null: there is none), null for nothing.
    private Change change(UserMemoryRegion r, MemSlot old, long baseGfn, long npages) {
        if (old == null) {
            require(totalPages + npages >= 0, Errno.EINVAL, "too many pages in all slots");
            return Change.CREATE;
        }
        int fixed = KvmAbi.MEM_READONLY | KvmAbi.MEM_GUEST_MEMFD;
        require((r.flags() & KvmAbi.MEM_GUEST_MEMFD) == 0, Errno.EINVAL, "a guest_memfd slot can only be deleted");
        require(old.npages() == npages && old.userspaceAddr() == r.userspaceAddr() && ((old.flags() ^ r.flags()) & fixed) == 0,
                Errno.EINVAL, "size, user address and kind of a slot are fixed");
        if (baseGfn != old.baseGfn()) {
            return Change.MOVE;
        }
        return r.flags() != old.flags() ? Change.FLAGS_ONLY : null;
    }

    /// [LINUX kvm_gmem_bind]
    private MemSlot bind(UserMemoryRegion r, int as, int id, long baseGfn, long npages) {
        require(r.guestMemfd() != null, Errno.EBADF, "no guest_memfd is given");
        require(r.guestMemfd() instanceof GuestMemFile, Errno.EINVAL, "not a guest_memfd");
        var file = (GuestMemFile) r.guestMemfd();
        long offset = r.guestMemfdOffset();
        require(file.owner() == mmu, Errno.EINVAL, "the guest_memfd belongs to another VM");
        require(Long.compareUnsigned(offset + r.memorySize(), file.size()) <= 0, Errno.EINVAL, "beyond the end of the guest_memfd");
        long pgoff = offset >>> PAGE_SHIFT;
        int flags = file.canBeMapped() ? r.flags() | MemSlot.GMEM_ONLY : r.flags();
        var slot = new MemSlot(as, id, baseGfn, npages, r.userspaceAddr(), flags, file, pgoff);
        require(file.bind(slot), Errno.EEXIST, "the guest_memfd range is bound already");
        return slot;
    }

    /// Puts a change into effect. [LINUX kvm_set_memslot]
    private void apply(MemSlot old, MemSlot replacement, Change change) {
        MemSlot going = null;
        if (change == Change.DELETE || change == Change.MOVE) {
            going = old.invalid();
            swap(old, going);
            mmu.flushSlot(old);
        }
        try {
            prepare(old, replacement, change);
        } catch (KvmException failed) {
            if (going != null) {
                swap(going, old);
            }
            throw failed;
        }
        swap(going == null ? old : going, replacement);
        commit(old, replacement, change);
    }

    private void prepare(MemSlot old, MemSlot replacement, Change change) {
        if (change != Change.DELETE && replacement.logsDirtyPages()) {
            if (old != null && old.dirtyBitmap() != null) {
                replacement.dirtyBitmap(old.dirtyBitmap());
            } else if (mmu.dirtyLog().usesBitmaps()) {
                replacement.dirtyBitmap(mmu.dirtyLog().newBitmap(replacement));
            }
        }
        if (change == Change.CREATE || change == Change.MOVE) {
            long last = replacement.endGfn() - 1;
            require(last <= mmu.maxGfn(), Errno.EINVAL, "beyond the platform's physical addresses");
            require((last & mmu.directBits()) == 0, Errno.EINVAL, "the SHARED bit is no part of a slot's address");
        }
    }

    private void commit(MemSlot old, MemSlot replacement, Change change) {
        if (change == Change.DELETE) {
            totalPages -= old.npages();
        } else if (change == Change.CREATE) {
            totalPages += replacement.npages();
        }
        if (change == Change.FLAGS_ONLY && !replacement.readOnly()) {
            mmu.dirtyLog().toggled(replacement);
        }
        if (change == Change.DELETE && old.gmem() != null) {
            old.gmem().unbind(old);
        }
    }

    /// Makes the set with `replacement` in the place of `old` the one in use. [LINUX kvm_swap_active_memslots]
    private void swap(MemSlot old, MemSlot replacement) {
        int as = (old == null ? replacement : old).addressSpace();
        long generation = active[as].generation();
        var next = new MemSlotSet(active[as].replaced(old, replacement), generation | MemSlotSet.UPDATE_IN_PROGRESS);
        mmu.awaitNoInvalidation();
        active[as] = next;
        mmu.synchronizeSlotReaders();
        long done = generation + active.length;
        mmu.slotsUpdated(done);
        next.generation(done);
    }

    private static void require(boolean condition, Errno errno, String text) {
        if (!condition) {
            throw new KvmException(errno, text);
        }
    }

    @Override public String stateName() {
        return "slots";
    }

    @Override public void describe(StateSink to) {
        to.text("active", Arrays.stream(active).map(MemSlots::slotsOf).toList());
        to.field("totalPages", totalPages);
    }

    private static List<String> slotsOf(MemSlotSet set) {
        return Arrays.stream(set.all()).map(slot -> slot.id() + ":" + slot.baseGfn() + "+" + slot.npages() + "@" + slot.userspaceAddr()
                + "/" + slot.flags() + Arrays.toString(slot.dirtyBitmap())).sorted().toList();
    }
}
