package cloister.vmm.mmu;

import cloister.spec.kvm.Errno;
import java.util.BitSet;

/// What slots, attributes and the VMM's memory say about each page of the region under test, without page tables: written against the
/// documentation of the ioctls alone.
final class MmuModel {
    static final int PAGES = 1024;
    static final int SLOTS = 4;
    /// The last slot is in the address space of system-management mode, which no guest of this fuzzer sees.
    static final int SMM_SLOT = 3;
    static final int ORDINARY = 0;
    static final int SOFTWARE_PROTECTED = 1;
    static final int TD = 2;
    static final int LOG = 1;
    static final int READ_ONLY = 2;

    // Variants of a machine, a bit each
    /// KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2.
    static final int MANUAL_PROTECT = 1;
    /// Without KVM_X86_QUIRK_SLOT_ZAP_ALL.
    static final int SLOTS_ALONE = 2;
    /// KVM is loaded with ept=0.
    static final int SHADOW = 4;
    /// Another memory-type policy than upstream's: mtrr, or proposed-2023 for a TD.
    static final int OTHER_TYPES = 8;
    /// The zap policy is retry-forever.
    static final int RETRY = 16;
    /// KVM is loaded with nx_huge_pages.
    static final int NX = 32;
    /// KVM_CAP_DIRTY_LOG_RING.
    static final int RINGS = 64;
    /// An ordinary VM with one vCPU is beside this one.
    static final int WITH_NEIGHBOUR = 128;
    static final int NEIGHBOURS_SLOT = -2;

    /// A slot.
    ///
    /// @param backing  first page of what is behind it
    /// @param memory   anonymous memory behind it: which of all mappings made so far
    /// @param file     the guest_memfd behind it, or null
    record Slot(int first, int pages, int backing, Memory memory, Memory file, int flags) {
        boolean has(int page) {
            return page >= first && page < first + pages;
        }

        boolean meets(int from, int length) {
            return from < first + pages && first < from + length;
        }

        boolean logs() {
            return (flags & LOG) != 0;
        }

        boolean readOnly() {
            return (flags & READ_ONLY) != 0;
        }
    }

    /// Anonymous memory or a guest_memfd.
    static final class Memory {
        final Words words = new Words();
        boolean mapped = true;
        boolean writable = true;
    }

    /// Where an access goes.
    enum Way { MEMORY, MMIO, FAULT, ATTRIBUTE_FAULT }

    /// @param way      what is behind the page
    /// @param memory   null unless MEMORY
    /// @param index    page in `memory`
    /// @param slot     number of the slot, or -1
    /// @param writable whether a write reaches it; MMIO when the slot is read-only, FAULT when the VMM's mapping is
    record Place(Way way, Memory memory, int index, int slot, Way write) {
    }

    final int type;
    final int cpus;
    final int processors;
    private final int variant;
    final BitSet online = new BitSet();
    /// The anonymous memory that the VM beside this one sees, or null.
    Memory neighbours;
    final Slot[] slots = new Slot[SLOTS];
    final BitSet isPrivate = new BitSet();
    /// Private pages of a TD that its guest has accepted, and those that it may have.
    final BitSet accepted = new BitSet();
    final BitSet maybeAccepted = new BitSet();
    /// Shared pages of a TD that were MMIO once: their entries raise #VE, and nothing but a large page takes their place when a slot
    /// comes. KVM ages MMIO entries by their generation, which only counts where they exit. [LINUX kvm_arch_memslots_updated]
    final BitSet wasMmio = new BitSet();
    /// Pages of each slot that the next log must have.
    final BitSet[] dirty = new BitSet[SLOTS];
    /// Anonymous memory and guest_memfd of today.
    Memory user = new Memory();
    Memory file = new Memory();

    /// @param machine a MACHINE step
    MmuModel(MmuStep machine) {
        this.type = machine.operand(0);
        this.cpus = machine.operand(1);
        this.processors = machine.operand(2);
        this.variant = machine.operand(3);
        online.set(0, processors);
        for (int i = 0; i < SLOTS; i++) {
            dirty[i] = new BitSet();
        }
    }

    /// Whether the machine has a variant.
    boolean is(int bit) {
        return (variant & bit) != 0;
    }

    /// Whether the access is that of the VM beside this one.
    boolean isNeighbours(MmuStep.Access access) {
        return access.vcpu() >= cpus;
    }

    /// Whether there is such a vCPU.
    boolean isPossible(MmuStep.Access access) {
        return access.vcpu() < cpus || is(WITH_NEIGHBOUR);
    }

    /// Whether the access is that of a TD.
    boolean isTd(MmuStep.Access access) {
        return type == TD && !isNeighbours(access);
    }

    /// Whether the access goes to private memory.
    boolean isPrivate(MmuStep.Access access) {
        return !isNeighbours(access) && isPrivate.get(access.page());
    }

    /// Where the access goes.
    Place place(MmuStep.Access access) {
        return isNeighbours(access) ? neighboursPlace(access.page()) : place(access.page());
    }

    /// Where an access of the VM beside this one goes.
    Place neighboursPlace(int page) {
        if (neighbours == null) {
            return new Place(Way.MMIO, null, 0, NEIGHBOURS_SLOT, Way.MMIO);
        }
        return neighbours.mapped ? new Place(Way.MEMORY, neighbours, page, NEIGHBOURS_SLOT,
                neighbours.writable ? Way.MEMORY : Way.FAULT) : new Place(Way.FAULT, null, 0, NEIGHBOURS_SLOT, Way.FAULT);
    }

    boolean hasAttributes() {
        return type != ORDINARY;
    }

    int slotOf(int page) {
        for (int i = 0; i < SMM_SLOT; i++) {
            if (slots[i] != null && slots[i].has(page)) {
                return i;
            }
        }
        return -1;
    }

    /// Where an access to `page` goes that is private or shared as the attributes want it.
    Place place(int page) {
        boolean wantsFile = isPrivate.get(page);
        int id = slotOf(page);
        if (id < 0) {
            var way = wantsFile ? Way.ATTRIBUTE_FAULT : Way.MMIO;
            return new Place(way, null, 0, -1, way);
        }
        var slot = slots[id];
        int index = slot.backing + page - slot.first;
        if (wantsFile || (slot.file != null && type == ORDINARY)) {
            return slot.file == null ? new Place(Way.ATTRIBUTE_FAULT, null, 0, id, Way.ATTRIBUTE_FAULT)
                    : new Place(Way.MEMORY, slot.file, index, id, slot.readOnly() ? Way.MMIO : Way.MEMORY);
        }
        // A write to a read-only slot is the VMM's to carry out, wherever the memory is.
        var write = slot.readOnly() ? Way.MMIO : slot.memory.mapped && slot.memory.writable ? Way.MEMORY : Way.FAULT;
        return slot.memory.mapped ? new Place(Way.MEMORY, slot.memory, index, id, write) : new Place(Way.FAULT, null, 0, id, write);
    }

    // --- slots; each returns the error number that Linux gives, or null

    private boolean meetsAnother(int id, int first, int pages) {
        for (int i = 0; i < SLOTS; i++) {
            if (i != id && slots[i] != null && (i == SMM_SLOT) == (id == SMM_SLOT) && slots[i].meets(first, pages)) {
                return true;
            }
        }
        return false;
    }

    private boolean isBound(int backing, int pages) {
        for (var slot : slots) {
            if (slot != null && slot.file == file && backing < slot.backing + slot.pages && slot.backing < backing + pages) {
                return true;
            }
        }
        return false;
    }

    /// A slot is asked for that has the number `id`.
    Errno create(int id, Slot wanted) {
        boolean withFile = wanted.file != null;
        if ((withFile && wanted.logs()) || (wanted.readOnly() && (withFile || type == TD))) {
            return Errno.EINVAL;
        }
        var old = slots[id];
        if (old != null) {
            return replace(id, old, wanted);
        }
        if (meetsAnother(id, wanted.first, wanted.pages)) {
            return Errno.EEXIST;
        }
        if (withFile && isBound(wanted.backing, wanted.pages)) {
            return Errno.EEXIST;
        }
        slots[id] = wanted;
        dirty[id].clear();
        return null;
    }

    private Errno replace(int id, Slot old, Slot wanted) {
        boolean same = wanted.file == null && old.file == null && old.pages == wanted.pages && old.memory == wanted.memory
                && old.backing == wanted.backing && old.readOnly() == wanted.readOnly();
        if (!same) {
            return Errno.EINVAL;
        }
        if (old.first != wanted.first && meetsAnother(id, wanted.first, wanted.pages)) {
            return Errno.EEXIST;
        }
        if (!old.logs() || !wanted.logs()) {
            dirty[id].clear();
        }
        slots[id] = wanted;
        return null;
    }

    Errno delete(int id) {
        if (slots[id] == null) {
            return Errno.EINVAL;
        }
        forget(slots[id].first, slots[id].first + slots[id].pages);
        slots[id] = null;
        dirty[id].clear();
        return null;
    }

    /// Private pages `[from, to)` are not mapped any more.
    private void forget(int from, int to) {
        accepted.clear(from, to);
        maybeAccepted.clear(from, to);
    }

    // --- what is behind them

    Errno attributes(int first, int pages, boolean nowPrivate) {
        if (!hasAttributes()) {
            return nowPrivate ? Errno.EINVAL : null;
        }
        isPrivate.set(first, first + pages, nowPrivate);
        if (!nowPrivate) {
            forget(first, first + pages);
        }
        return null;
    }

    /// Pages `[first, first + pages)` of the guest_memfd go.
    void punch(int first, int pages) {
        file.words.clear(first, first + pages);
        for (int i = 0; i < SMM_SLOT; i++) {
            var slot = slots[i];
            if (slot != null && slot.file == file) {
                int from = Math.max(slot.first, slot.first + first - slot.backing);
                int to = Math.min(slot.first + slot.pages, slot.first + first + pages - slot.backing);
                if (from < to) {
                    forget(from, to);
                }
            }
        }
    }

    void discard(int first, int pages) {
        user.words.clear(first, first + pages);
    }

    void remap() {
        user.mapped = false;
        user = new Memory();
    }
}
