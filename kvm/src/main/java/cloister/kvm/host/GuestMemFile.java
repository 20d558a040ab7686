package cloister.kvm.host;

import cloister.kvm.Defect;
import cloister.kvm.GuestMemfd;
import cloister.kvm.KvmException;
import cloister.memory.PhysicalMemory;
import cloister.spec.kvm.Errno;
import java.util.ArrayList;
import java.util.List;

/// A guest_memfd: frames that guests map through the memory slots bound to the file. Before a frame goes, it is unmapped everywhere.
/// [LINUX virt/kvm/guest_memfd.c]
public final class GuestMemFile implements GuestMemfd {
    private static final long PAGE = PhysicalMemory.FRAME_SIZE;

    /// A memory slot as the file knows it.
    public interface Binding {
        /// The first page of the file that it uses.
        long gmemPgoff();

        /// How many pages it uses.
        long npages();

        /// The file is released: the slot has none any more.
        void forgetGmem();
    }

    /// The VM that made the file; only its slots can be bound.
    public interface Owner {
        /// Unmaps pages `[first, end)` as far as `binding` has them, and keeps them from being mapped.
        ///
        /// @param isPrivate whether the private mappings are meant, or the shared ones
        void beginGmemInvalidation(List<Binding> bindings, long first, long end, boolean isPrivate);

        /// Whether the VM was told to do something wrong.
        boolean has(Defect defect);

        /// The pages may be mapped again.
        void endGmemInvalidation(List<Binding> bindings, long first, long end);
    }

    private final FrameAllocator frames;
    private final ProcessMemory process;
    private final Owner owner;
    private final FrameTable table;
    private final boolean mappable;
    private final boolean initShared;
    private final List<Binding> bindings = new ArrayList<>();

    /// An empty file of `size` bytes.
    ///
    /// @param flags [GuestMemfd#FLAG_MMAP] and [GuestMemfd#FLAG_INIT_SHARED], checked
    public GuestMemFile(FrameAllocator frames, ProcessMemory process, long size, long flags, Owner owner) {
        this.frames = frames;
        this.process = process;
        this.owner = owner;
        this.table = new FrameTable(size / PAGE);
        this.mappable = (flags & FLAG_MMAP) != 0;
        this.initShared = (flags & FLAG_INIT_SHARED) != 0;
    }

    @Override public long size() {
        return table.pages() * PAGE;
    }

    @Override public long allocatedPages() {
        return table.resident();
    }

    /// The VM that the file belongs to.
    public Owner owner() {
        return owner;
    }

    /// Whether the VMM may map it; then shared accesses of guests go here too.
    public boolean canBeMapped() {
        return mappable;
    }

    /// Whether its pages are shared with the VMM.
    public boolean isInitShared() {
        return initShared;
    }

    /// Binds a slot to its pages.
    ///
    /// @return false when another slot has some of them
    public boolean bind(Binding slot) {
        if (!boundIn(slot.gmemPgoff(), slot.gmemPgoff() + slot.npages()).isEmpty()) {
            return false;
        }
        bindings.add(slot);
        return true;
    }

    /// Ends a binding, if there is one.
    public void unbind(Binding slot) {
        bindings.remove(slot);
    }

    private List<Binding> boundIn(long first, long end) {
        List<Binding> found = new ArrayList<>();
        for (var slot : bindings) {
            if (slot.gmemPgoff() < end && first < slot.gmemPgoff() + slot.npages()) {
                found.add(slot);
            }
        }
        return found;
    }

    /// The frame of page `index`, given one when it has none. [LINUX kvm_gmem_get_pfn]
    ///
    /// @return its physical address, or [ProcessMemory#NO_MEMORY]
    public long fault(long index) {
        long pa = table.pa(index);
        if (pa >= 0) {
            return pa;
        }
        try {
            table.set(index, frames.allocate());
        } catch (KvmException none) {
            return ProcessMemory.NO_MEMORY;
        }
        return table.pa(index);
    }

    /// The frame that page `index` has now, or -1; beyond the end there is none.
    public long frameOf(long index) {
        return index < table.pages() ? table.pa(index) : -1;
    }

    /// [#fault] for an access of the VMM; what was not made shared cannot be touched by it (SIGBUS). [LINUX
    /// kvm_gmem_fault_user_mapping]
    long userFault(long index) {
        return index >= table.pages() || !initShared ? ProcessMemory.NO_MAPPING : fault(index);
    }

    @Override public void punchHole(long offset, long length) {
        checkRange(offset, length);
        long first = Math.min(offset / PAGE, table.pages());
        long end = Math.min((offset + length) / PAGE, table.pages());
        release(first, end);
    }

    @Override public void allocate(long offset, long length) {
        checkRange(offset, length);
        require(offset + length <= size(), "beyond the end of the guest_memfd");
        for (long page = offset / PAGE; page < (offset + length) / PAGE; page++) {
            if (fault(page) < 0) {
                throw new KvmException(Errno.ENOMEM, "no free platform memory; give the platform more");
            }
        }
    }

    /// [LINUX vfs_fallocate, kvm_gmem_fallocate]
    private static void checkRange(long offset, long length) {
        require(offset >= 0 && length > 0, "range of the guest_memfd");
        if (offset + length < 0) {
            throw new KvmException(Errno.EFBIG, "range of the guest_memfd wraps");
        }
        require((offset | length) % PAGE == 0, "range is not whole pages of the guest_memfd");
    }

    private static void require(boolean condition, String text) {
        if (!condition) {
            throw new KvmException(Errno.EINVAL, text);
        }
    }

    /// Releases the file: everything is zapped and freed, and its slots have no file any more. The caller holds slots_lock. [LINUX
    /// kvm_gmem_release]
    public void close() {
        release(0, table.pages());
        for (var slot : bindings) {
            slot.forgetGmem();
        }
        bindings.clear();
    }

    private void release(long first, long end) {
        if (first >= end) {
            return;
        }
        var affected = boundIn(first, end);
        if (owner.has(Defect.HOLE_IS_FREED_BEFORE_UNMAPPED)) {
            table.release(first, end, frames);
        }
        owner.beginGmemInvalidation(affected, first, end, !initShared);
        if (mappable) {
            process.unmapGuestPages(this, first, end);
        }
        table.release(first, end, frames);
        owner.endGmemInvalidation(affected, first, end);
    }
}
