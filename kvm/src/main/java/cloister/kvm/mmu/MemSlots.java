package cloister.kvm.mmu;

import cloister.kvm.KvmException;
import cloister.kvm.UserMemoryRegion;
import cloister.kvm.host.AnonymousMemory;
import cloister.kvm.host.GuestMemFile;
import cloister.spec.kvm.Errno;
import cloister.spec.kvm.KvmAbi;
import java.util.Arrays;
import java.util.stream.Stream;

/// The memory slots of a VM. Every change makes a new generation, which ages out cached MMIO SPTEs.
public final class MemSlots {
    private static final int MAX_SLOTS = 509;
    private static final long MAX_PAGES = 0x7fff_ffffL;
    private static final int KNOWN_FLAGS = KvmAbi.MEM_LOG_DIRTY_PAGES | KvmAbi.MEM_READONLY | KvmAbi.MEM_GUEST_MEMFD;

    private final boolean privateMemory;
    private final AnonymousMemory userMemory;
    private MemSlot[] slots = {};
    private MemSlot last;
    private long generation;

    /// @param privateMemory whether the VM type has private memory: guest_memfd allowed, read-only slots not
    public MemSlots(AnonymousMemory userMemory, boolean privateMemory) {
        this.userMemory = userMemory;
        this.privateMemory = privateMemory;
    }

    /// How often the slots changed.
    public long generation() {
        return generation;
    }

    /// The slots, unordered; not to be modified.
    public MemSlot[] all() {
        return slots;
    }

    /// The slot of guest frame `gfn`, or null.
    public MemSlot find(long gfn) {
        var hit = last;
        if (hit != null && hit.contains(gfn)) {
            return hit;
        }
        for (var slot : slots) {
            if (slot.contains(gfn)) {
                last = slot;
                return slot;
            }
        }
        return null;
    }

    /// The slot with number `id`, or null.
    public MemSlot byId(int id) {
        for (var slot : slots) {
            if (slot.id() == id) {
                return slot;
            }
        }
        return null;
    }

    /// Checks KVM_SET_USER_MEMORY_REGION2 and says what the slot would become. [LINUX kvm_set_memory_region]
    ///
    /// @return the new slot, or null for a deletion
    public MemSlot check(UserMemoryRegion r) {
        checkArguments(r);
        var old = byId(r.slot());
        long npages = r.memorySize() >>> 12;
        if (npages == 0) {
            require(old != null, Errno.EINVAL, "slot " + r.slot() + " does not exist");
            return null;
        }
        long baseGfn = r.guestPhysAddr() >>> 12;
        if (old != null) {
            require(old.gmem() == null && (r.flags() & KvmAbi.MEM_GUEST_MEMFD) == 0, Errno.EINVAL,
                    "a guest_memfd slot cannot be changed");
            require(old.npages() == npages && old.userspaceAddr() == r.userspaceAddr()
                    && ((old.flags() ^ r.flags()) & KvmAbi.MEM_READONLY) == 0, Errno.EINVAL,
                    "size, address and KVM_MEM_READONLY of a slot are fixed");
        }
        for (var slot : slots) {
            if (slot.id() != r.slot() && baseGfn < slot.baseGfn() + slot.npages() && slot.baseGfn() < baseGfn + npages) {
                throw new KvmException(Errno.EEXIST, "slot " + r.slot() + " overlaps slot " + slot.id());
            }
        }
        var gmem = r.guestMemfd() instanceof GuestMemFile file ? file : null;
        return new MemSlot(r.slot(), baseGfn, npages, r.userspaceAddr(), r.flags(), gmem, r.guestMemfdOffset() >>> 12);
    }

    private void checkArguments(UserMemoryRegion r) {
        int allowed = privateMemory ? KNOWN_FLAGS & ~KvmAbi.MEM_READONLY : KNOWN_FLAGS;
        if (!privateMemory) {
            allowed &= ~KvmAbi.MEM_GUEST_MEMFD;
        }
        boolean gmem = (r.flags() & KvmAbi.MEM_GUEST_MEMFD) != 0;
        if (gmem) {
            allowed &= ~(KvmAbi.MEM_LOG_DIRTY_PAGES | KvmAbi.MEM_READONLY);
        }
        require((r.flags() & ~allowed) == 0, Errno.EINVAL, "flags 0x" + Integer.toHexString(r.flags()));
        require(((r.guestPhysAddr() | r.memorySize() | r.userspaceAddr() | r.guestMemfdOffset()) & 0xfff) == 0,
                Errno.EINVAL, "slot is not page-aligned");
        require(r.memorySize() == 0 || userMemory.isMapped(r.userspaceAddr(), r.memorySize()), Errno.EINVAL,
                "no user memory at 0x" + Long.toHexString(r.userspaceAddr()));
        require(r.slot() >= 0 && r.slot() < MAX_SLOTS, Errno.EINVAL, "slot number " + r.slot());
        require(r.guestPhysAddr() >= 0 && r.guestPhysAddr() + r.memorySize() >= r.guestPhysAddr()
                && r.memorySize() >>> 12 <= MAX_PAGES, Errno.EINVAL, "slot range wraps or is too large");
        if (gmem && r.memorySize() != 0) {
            require(r.guestMemfd() != null && r.guestMemfdOffset() >= 0
                    && r.guestMemfdOffset() + r.memorySize() <= r.guestMemfd().size(), Errno.EINVAL,
                    "guest_memfd range of slot " + r.slot());
        }
    }

    /// Commits what [#check] returned for slot number `id`.
    public void commit(int id, MemSlot replacement) {
        var kept = Arrays.stream(slots).filter(slot -> slot.id() != id);
        slots = replacement == null ? kept.toArray(MemSlot[]::new)
                : Stream.concat(kept, Stream.of(replacement)).toArray(MemSlot[]::new);
        last = null;
        generation++;
    }

    private static void require(boolean condition, Errno errno, String text) {
        if (!condition) {
            throw new KvmException(errno, text);
        }
    }
}
