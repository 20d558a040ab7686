package cloister.kvm.mmu;

import cloister.kvm.Defect;
import cloister.kvm.KvmException;
import cloister.spec.kvm.Errno;
import java.util.Arrays;
import java.util.function.BooleanSupplier;

/// Which pages the guest wrote: bitmaps of slots, or rings of vCPUs. [LINUX kvm_get_dirty_log_protect, kvm_clear_dirty_log_protect,
/// kvm_dirty_ring_reset, kvm_mmu_slot_apply_flags]
public final class DirtyLog {
    /// KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE: reading the log does not protect again; KVM_CLEAR_DIRTY_LOG does.
    public static final long MANUAL_PROTECT = 1;
    /// KVM_DIRTY_LOG_INITIALLY_SET: the log starts with all pages written.
    public static final long INITIALLY_SET = 2;

    private final Mmu mmu;
    private long manual;
    private int ringEntries;

    DirtyLog(Mmu mmu) {
        this.mmu = mmu;
    }

    /// KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2. @throws KvmException EINVAL
    public void enableManualProtect(long options) {
        long allowed = (options & MANUAL_PROTECT) != 0 ? MANUAL_PROTECT | INITIALLY_SET : MANUAL_PROTECT;
        require((options & ~allowed) == 0, Errno.EINVAL, "dirty log options 0x" + Long.toHexString(options));
        manual = options;
    }

    /// KVM_CAP_DIRTY_LOG_RING(_ACQ_REL).
    ///
    /// @param size          bytes of each ring, of which Linux takes the low 32 bits of the argument
    /// @param vcpusExist    whether it is too late
    /// @throws KvmException EINVAL, E2BIG
    public void enableRings(int size, boolean vcpusExist) {
        long bytes = size & 0xffff_ffffL;
        require(bytes != 0 && (bytes & (bytes - 1)) == 0, Errno.EINVAL, "ring size is no power of two");
        long least = (long) (DirtyRing.RESERVED_ENTRIES + mmu.parameters().cpuDirtyLogSize()) * DirtyRing.ENTRY_SIZE;
        require(bytes >= least && bytes >= 1L << Mmu.PAGE_SHIFT, Errno.EINVAL, "ring of " + bytes + " bytes");
        require(bytes <= (long) DirtyRing.MAX_ENTRIES * DirtyRing.ENTRY_SIZE, Errno.E2BIG, "ring of " + bytes + " bytes");
        require(ringEntries == 0, Errno.EINVAL, "there are rings already");
        require(!vcpusExist, Errno.EINVAL, "vCPUs exist");
        ringEntries = (int) (bytes / DirtyRing.ENTRY_SIZE);
    }

    /// The ring of a new vCPU, null when there are none.
    DirtyRing newRing() {
        return ringEntries == 0 ? null : new DirtyRing(ringEntries, mmu.parameters().cpuDirtyLogSize());
    }

    /// Whether bitmaps are kept: not beside rings. [LINUX kvm_use_dirty_bitmap]
    boolean usesBitmaps() {
        return ringEntries == 0;
    }

    private boolean initiallySet() {
        return manual == (MANUAL_PROTECT | INITIALLY_SET);
    }

    /// The bitmap with which logging of a slot starts.
    long[] newBitmap(MemSlot slot) {
        var bitmap = new long[slot.bitmapLength()];
        if (initiallySet()) {
            Arrays.fill(bitmap, -1L);
            int odd = (int) (slot.npages() % Long.SIZE);
            if (odd != 0) {
                bitmap[bitmap.length - 1] = (1L << odd) - 1;
            }
        }
        return bitmap;
    }

    /// Whether a page that is populated cannot be mapped writable, which counts as written, because its ring is full.
    ///
    /// DEVIATION: Linux 7.2 maps it so in any case, and what KVM_PRE_FAULT_MEMORY populates beyond the size of the ring overwrites entries
    /// that nobody has seen. Here such a page is mapped read-only, and its first write faults.
    boolean isFull(VcpuMmu vcpu, MemSlot slot) {
        return ringEntries != 0 && vcpu != null && slot.logsDirtyPages() && vcpu.ring().isSoftFull();
    }

    /// The guest, or KVM for it, has written a page. [LINUX mark_page_dirty_in_slot]
    ///
    /// @param vcpu for whom, null for nobody
    void mark(VcpuMmu vcpu, MemSlot slot, long gfn) {
        if (!slot.logsDirtyPages()) {
            return;
        }
        if (ringEntries != 0 && vcpu != null) {
            vcpu.ring().push(slot.ringSlot(), gfn - slot.baseGfn());
        } else if (slot.dirtyBitmap() != null) {
            slot.markDirty(gfn);
        }
    }

    /// Logging of a slot was turned on or off. slots_lock is held.
    void toggled(MemSlot slot) {
        if (!slot.logsDirtyPages()) {
            mmu.lockShared();
            try {
                mmu.hugePages().recover(slot);
            } finally {
                mmu.unlockShared();
            }
            return;
        }
        if (initiallySet()) {
            return; // every page counts as written: nothing to protect yet
        }
        if (mmu.parameters().eagerPageSplit()) {
            mmu.lockShared();
            try {
                mmu.hugePages().splitRange(slot.addressSpace(), slot.baseGfn(), slot.endGfn(), 1, true);
            } finally {
                mmu.unlockShared();
            }
        }
        mmu.lockShared();
        try {
            if (mmu.parameters().cpuDirtyLogSize() > 0) {
                mmu.tracking().clearDirty(slot);
                mmu.tracking().writeProtect(slot, 2);
            } else {
                mmu.tracking().writeProtect(slot, 1);
            }
        } finally {
            mmu.unlockShared();
        }
        mmu.flushRemoteTlbs();
    }

    /// Whether the bitmap of slot `number`, if there is one, has a page as written.
    public boolean has(int number, long page) {
        var slot = mmu.slots().set(number >>> 16).byId(number & 0xffff);
        return slot != null && slot.dirtyBitmap() != null && (slot.dirtyBitmap()[(int) (page / Long.SIZE)] & (1L << page)) != 0;
    }

    /// The slot of a request. [LINUX the checks that KVM_GET_DIRTY_LOG and KVM_CLEAR_DIRTY_LOG share]
    private MemSlot slot(int number) {
        var slot = mmu.slots().set(number >>> 16).byId(number & 0xffff);
        require(slot != null && slot.dirtyBitmap() != null, Errno.ENOENT, "the slot does not log writes");
        return slot;
    }

    private void checkNumber(int number) {
        require(usesBitmaps(), Errno.ENXIO, "writes go to rings");
        require((number >>> 16) < mmu.slots().addressSpaces() && (number & 0xffff) < MemSlots.USER_SLOTS, Errno.EINVAL,
                "slot number 0x" + Integer.toHexString(number));
    }

    /// KVM_GET_DIRTY_LOG; slots_lock is held.
    ///
    /// @param number slot number, address space in 31:16
    /// @return one bit for each page of the slot
    /// @throws KvmException ENXIO, EINVAL, ENOENT
    public long[] get(int number) {
        checkNumber(number);
        var slot = slot(number);
        mmu.syncCpuDirtyLogs();
        var bitmap = slot.dirtyBitmap();
        if (manual != 0) {
            return bitmap.clone();
        }
        var snapshot = new long[bitmap.length];
        boolean flush = false;
        mmu.lockExclusive();
        try {
            for (int i = 0; i < bitmap.length; i++) {
                if (bitmap[i] != 0) {
                    flush = true;
                    snapshot[i] = bitmap[i];
                    bitmap[i] = 0;
                    if (!mmu.has(Defect.LOG_WITHOUT_PROTECTION)) {
                        watchAgain(slot, (long) i * Long.SIZE, snapshot[i]);
                    }
                }
            }
        } finally {
            mmu.unlockExclusive();
        }
        if (flush) {
            mmu.flushRemoteTlbs();
        }
        return snapshot;
    }

    /// KVM_CLEAR_DIRTY_LOG; slots_lock is held.
    ///
    /// @param number    slot number, address space in 31:16
    /// @param firstPage a multiple of 64
    /// @param numPages  a multiple of 64 unless it reaches the end of the slot
    /// @param clear     which of the pages
    /// @throws KvmException ENXIO, EINVAL, ENOENT; EFAULT when `clear` is too short
    public void clear(int number, long firstPage, int numPages, long[] clear) {
        checkNumber(number);
        require((firstPage & (Long.SIZE - 1)) == 0, Errno.EINVAL, "first page " + firstPage);
        var slot = slot(number);
        long pages = numPages & 0xffff_ffffL;
        require(Long.compareUnsigned(firstPage, slot.npages()) <= 0 && pages <= slot.npages() - firstPage
                && (pages == slot.npages() - firstPage || (pages & (Long.SIZE - 1)) == 0), Errno.EINVAL, "range of pages");
        mmu.syncCpuDirtyLogs();
        int words = (int) ((pages + Long.SIZE - 1) / Long.SIZE);
        require(clear.length >= words, Errno.EFAULT, "bitmap is too short");
        var bitmap = slot.dirtyBitmap();
        boolean flush = false;
        mmu.lockExclusive();
        try {
            for (int i = 0; i < words; i++) {
                int at = (int) (firstPage / Long.SIZE) + i;
                long cleared = bitmap[at] & clear[i];
                if (cleared != 0) {
                    bitmap[at] &= ~cleared;
                    flush = true;
                    watchAgain(slot, (long) at * Long.SIZE, cleared);
                }
            }
        } finally {
            mmu.unlockExclusive();
        }
        if (flush) {
            mmu.flushRemoteTlbs();
        }
    }

    /// The next write to the pages of `mask` is to be seen. mmu_lock is held exclusively. [LINUX
    /// kvm_arch_mmu_enable_log_dirty_pt_masked]
    private void watchAgain(MemSlot slot, long offset, long mask) {
        long base = slot.baseGfn() + offset;
        if (initiallySet()) {
            long first = base + Long.numberOfTrailingZeros(mask);
            long last = base + Long.SIZE - 1 - Long.numberOfLeadingZeros(mask);
            if (mmu.parameters().eagerPageSplit()) {
                mmu.hugePages().splitRange(slot.addressSpace(), first, last + 1, 1, false);
            }
            mmu.tracking().writeProtectForGood(slot, first, 2);
            if ((first ^ last) >>> 9 != 0) {
                mmu.tracking().writeProtectForGood(slot, last, 2);
            }
        }
        mmu.tracking().clearMasked(slot.addressSpace(), base, mask, mmu.parameters().cpuDirtyLogSize() == 0);
    }

    /// KVM_RESET_DIRTY_RINGS; slots_lock is held.
    ///
    /// @param interrupted whether a signal is pending, which ends it
    /// @return how many entries were taken back
    /// @throws KvmException EINVAL without rings
    public int resetRings(Iterable<VcpuMmu> vcpus, BooleanSupplier interrupted) {
        require(ringEntries != 0, Errno.EINVAL, "there are no rings");
        int count = 0;
        for (var vcpu : vcpus) {
            count += reset(vcpu.ring(), interrupted);
            if (interrupted.getAsBoolean()) {
                break;
            }
        }
        if (count != 0) {
            mmu.flushRemoteTlbs();
        }
        return count;
    }

    /// Entries that are near each other are watched again in one go. A signal ends it between two entries.
    ///
    /// DEVIATION: what was taken back before the signal is watched again. Linux 7.2 returns with the last group of entries taken back
    /// but not protected, so that further writes to these pages are not seen.
    private int reset(DirtyRing ring, BooleanSupplier interrupted) {
        int count = 0;
        int slot = 0;
        long offset = 0;
        long mask = 0;
        while (!interrupted.getAsBoolean()) {
            int index = ring.reset();
            if (index < 0) {
                break;
            }
            count++;
            long delta = ring.offset(index) - offset;
            if (mask != 0 && ring.slot(index) == slot && delta >= 0 && delta < Long.SIZE) {
                mask |= 1L << delta;
            } else if (mask != 0 && ring.slot(index) == slot && delta < 0 && delta > -Long.SIZE
                    && ((mask << -delta) >>> -delta) == mask) {
                mask = (mask << -delta) | 1;
                offset = ring.offset(index);
            } else {
                resetPages(slot, offset, mask);
                slot = ring.slot(index);
                offset = ring.offset(index);
                mask = 1;
            }
        }
        resetPages(slot, offset, mask);
        return count;
    }

    private void resetPages(int number, long offset, long mask) {
        if (mask == 0 || (number >>> 16) >= mmu.slots().addressSpaces()) {
            return;
        }
        var slot = mmu.slots().set(number >>> 16).byId(number & 0xffff);
        // The VMM may have written anything into the ring, and the slot may be another by now.
        long last = offset + Long.SIZE - 1 - Long.numberOfLeadingZeros(mask);
        if (slot == null || Long.compareUnsigned(offset, slot.npages()) >= 0 || Long.compareUnsigned(last, slot.npages()) >= 0) {
            return;
        }
        if (mmu.has(Defect.LOG_WITHOUT_PROTECTION)) {
            return;
        }
        mmu.lockExclusive();
        try {
            watchAgain(slot, offset, mask);
        } finally {
            mmu.unlockExclusive();
        }
    }

    private static void require(boolean condition, Errno errno, String text) {
        if (!condition) {
            throw new KvmException(errno, text);
        }
    }
}
