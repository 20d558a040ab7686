package cloister.tdx.core;

import cloister.memory.PhysicalMemory;
import cloister.spec.tdx.TdxStatus;
import java.util.Locale;

/// The physical address metadata tables: three arrays per TDMR, walked from 1 GiB to 4 KiB. [TDX-BASE "PAMT"]
public final class Pamt {
    public static final int SIZE_4K = 0;
    public static final int SIZE_2M = 1;
    public static final int SIZE_1G = 2;
    private static final long GIB = 1L << 30;

    private final ModuleState module;

    public Pamt(ModuleState module) {
        this.module = module;
    }

    public static long bytes(int size) {
        return 1L << (12 + 9 * size);
    }

    /// The TDMR whose initialised part covers `pa`, or null.
    private Tdmr covering(long pa) {
        Tdmr found = null;
        for (int i = 0; i < module.tdmrs.size(); i++) {
            var tdmr = module.tdmrs.get(i);
            if (Long.compareUnsigned(tdmr.info.base(), pa) > 0) {
                break;
            }
            found = tdmr;
        }
        return found == null || pa >= found.info.base() + found.info.size()
                || pa >= (found.lastInitialized & -GIB) ? null : found;
    }

    private PamtEntry entry(Tdmr tdmr, long pa, int size) {
        long index = (pa - tdmr.info.base()) >>> (12 + 9 * size);
        return new PamtEntry(module.memory, PhysicalMemory.hpa(tdmr.info.pamtBase()[size], module.globalKeyId)
                + PamtEntry.BYTES * index);
    }

    public LockWord lockOf(long pa) {
        return entry(covering(pa), pa, SIZE_4K).lock();
    }

    /// The entry of a page that the module knows to be in use, unlocked.
    public PamtEntry implicit(long pa, int size) {
        var tdmr = covering(pa);
        if (tdmr == null) {
            throw new ModuleHalt(String.format(Locale.ROOT, "no PAMT for page 0x%x", pa));
        }
        var entry = entry(tdmr, pa, size);
        if (entry.type() == PageType.NDA || entry.type() == PageType.RSVD) {
            throw new ModuleHalt(String.format(Locale.ROOT, "page 0x%x in use is free in the PAMT", pa));
        }
        return entry;
    }

    /// Locks only the leaf entry of a page that the module knows to be in use.
    public LockedPage lockImplicit(LpState lp, long pa, int size, LockMode mode, int operand) throws LeafFailure {
        var entry = implicit(pa, size);
        long busy = mode == LockMode.EXCLUSIVE ? SharexHp.tryExclusive(lp, entry.lock(), false)
                : SharexHp.tryShared(lp, entry.lock(), false);
        if (busy != 0) {
            throw new LeafFailure(busy | operand);
        }
        return new LockedPage(pa, size, mode, entry, null, null);
    }

    /// Locks the entry that describes the 4 KiB page at `pa`, whatever the size and type of what it is a part of.
    public LockedPage lockLeaf(LpState lp, long pa, LockMode mode, int operand) throws LeafFailure {
        if (!module.isPageAddress(pa, bytes(SIZE_4K))) {
            throw new LeafFailure(TdxStatus.OPERAND_INVALID, operand);
        }
        return walk(lp, pa, SIZE_4K, false, mode, operand, false);
    }

    /// Locks the entry of a `size` page and checks its type.
    public LockedPage lock(LpState lp, long pa, int size, LockMode mode, int type, int operand) throws LeafFailure {
        return lock(lp, pa, size, mode, type, operand, false);
    }

    /// Locks the entry of a 4 KiB page for a guest-side function, which cannot have it alone, and checks its type.
    public LockedPage lockByGuest(LpState lp, long pa, int type, int operand) throws LeafFailure {
        return lock(lp, pa, SIZE_4K, LockMode.SHARED, type, operand, true);
    }

    private LockedPage lock(LpState lp, long pa, int size, LockMode mode, int type, int operand, boolean guest)
            throws LeafFailure {
        if (!module.isPageAddress(pa, bytes(size))) {
            throw new LeafFailure(TdxStatus.OPERAND_INVALID, operand);
        }
        var page = walk(lp, pa, size, true, mode, operand, guest);
        if (page.size() != size || page.entry().type() != type) {
            page.close();
            throw new LeafFailure(TdxStatus.PAGE_METADATA_INCORRECT, operand);
        }
        return page;
    }

    /// Locks a free 4 KiB or 2 MiB range exclusively.
    public LockedPage lockFree(LpState lp, long pa, int size, int operand) throws LeafFailure {
        var page = lock(lp, pa, size, LockMode.EXCLUSIVE, PageType.NDA, operand);
        if (size == SIZE_2M && !isRangeFree(pa)) {
            page.close();
            throw new LeafFailure(TdxStatus.PAGE_METADATA_INCORRECT, operand);
        }
        return page;
    }

    private boolean isRangeFree(long pa) {
        var tdmr = covering(pa);
        for (long at = pa; at < pa + bytes(SIZE_2M); at += bytes(SIZE_4K)) {
            if (entry(tdmr, at, SIZE_4K).type() != PageType.NDA) {
                return false;
            }
        }
        return true;
    }

    private LockedPage walk(LpState lp, long pa, int target, boolean stopAtTarget, LockMode mode, int operand, boolean guest)
            throws LeafFailure {
        var tdmr = covering(pa);
        if (tdmr == null) {
            throw new LeafFailure(TdxStatus.OPERAND_ADDR_RANGE_ERROR, operand);
        }
        PamtEntry upper = null;
        PamtEntry middle = null;
        for (int size = SIZE_1G; size > SIZE_4K; size--) {
            var entry = entry(tdmr, pa, size);
            long busy = SharexHp.tryShared(lp, entry.lock(), guest);
            if (busy == 0 && (entry.type() == PageType.REG || (stopAtTarget && target == size))) {
                busy = mode == LockMode.EXCLUSIVE ? SharexHp.tryPromote(lp, entry.lock()) : 0;
                if (busy == 0) {
                    return new LockedPage(pa, size, mode, entry, upper, middle);
                }
                SharexHp.releaseShared(entry.lock());
            }
            if (busy != 0) {
                release(upper, middle);
                throw new LeafFailure(busy | operand);
            }
            if (size == SIZE_1G) {
                upper = entry;
            } else {
                middle = entry;
            }
        }
        var entry = entry(tdmr, pa, SIZE_4K);
        long busy = mode == LockMode.EXCLUSIVE ? SharexHp.tryExclusive(lp, entry.lock(), false)
                : SharexHp.tryShared(lp, entry.lock(), guest);
        if (busy != 0) {
            release(upper, middle);
            throw new LeafFailure(busy | operand);
        }
        return new LockedPage(pa, SIZE_4K, mode, entry, upper, middle);
    }

    private static void release(PamtEntry upper, PamtEntry middle) {
        if (upper != null) {
            SharexHp.releaseShared(upper.lock());
        }
        if (middle != null) {
            SharexHp.releaseShared(middle.lock());
        }
    }

    /// Initialises the entries of `pages` 4 KiB pages from `tdmr.lastInitialized`, a multiple of 2 MiB.
    public void initialize(Tdmr tdmr, int pages) {
        long from = tdmr.lastInitialized;
        long end = from + pages * bytes(SIZE_4K);
        for (int size = SIZE_4K; size <= SIZE_1G; size++) {
            long first = (from + bytes(size) - 1) & -bytes(size);
            if (first < end) {
                long past = (end + bytes(size) - 1) & -bytes(size);
                zeroLines(entry(tdmr, first, size).hpa(), entry(tdmr, past, size).hpa());
            }
        }
        for (int i = 0; i < TdmrInfo.MAX_RESERVED && tdmr.info.rsvdSize()[i] != 0; i++) {
            long first = Math.max(from, tdmr.info.base() + tdmr.info.rsvdOffset()[i]);
            long last = Math.min(end, tdmr.info.base() + tdmr.info.rsvdOffset()[i] + tdmr.info.rsvdSize()[i]);
            for (long pa = first; pa < last; pa += bytes(SIZE_4K)) {
                entry(tdmr, pa, SIZE_4K).type(PageType.RSVD);
            }
        }
    }

    /// Zeroes the lines that begin in a range, which also takes those that nobody owned yet.
    private void zeroLines(long from, long to) {
        long line = PhysicalMemory.LINE_SIZE;
        for (long at = (from + line - 1) & -line; at < to;) {
            long end = Math.min((to + line - 1) & -line, (at & -PhysicalMemory.FRAME_SIZE) + PhysicalMemory.FRAME_SIZE);
            module.memory.clearLines(at, (int) ((end - at) / line));
            at = end;
        }
    }

    /// Merges 512 child entries into one leaf of size `size`; they are all alike.
    public void promote(LpState lp, long pa, int size, int operand) throws LeafFailure {
        var tdmr = covering(pa);
        var parent = entry(tdmr, pa, size);
        long busy = SharexHp.tryExclusive(lp, parent.lock(), false);
        if (busy != 0) {
            throw new LeafFailure(busy | operand);
        }
        var first = entry(tdmr, pa, size - 1);
        parent.type(first.type());
        parent.ownerPa(first.ownerPa());
        for (int i = 0; i < 512; i++) {
            entry(tdmr, pa + i * bytes(size - 1), size - 1).type(PageType.NDA);
        }
        SharexHp.releaseExclusive(parent.lock());
    }

    /// Splits the leaf of size `size` at `pa` into 512 children.
    public void demote(LpState lp, long pa, int size, int operand) throws LeafFailure {
        var tdmr = covering(pa);
        var parent = entry(tdmr, pa, size);
        long busy = SharexHp.tryExclusive(lp, parent.lock(), false);
        if (busy != 0) {
            throw new LeafFailure(busy | operand);
        }
        for (int i = 0; i < 512; i++) {
            var child = entry(tdmr, pa + i * bytes(size - 1), size - 1);
            child.type(parent.type());
            child.ownerPa(parent.ownerPa());
            child.bepoch(0);
        }
        parent.type(PageType.NDA);
        SharexHp.releaseExclusive(parent.lock());
    }
}
