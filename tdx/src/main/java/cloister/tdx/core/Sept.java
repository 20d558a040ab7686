package cloister.tdx.core;

import cloister.memory.PhysicalMemory;
import cloister.spec.tdx.OperandId;
import cloister.spec.tdx.TdxStatus;

/// The Secure EPT of a TD: tree lock, walks, entry locks. Entries are words in frames of the TD's KeyID.
public final class Sept {
    private final PhysicalMemory memory;
    private final int keyId;

    public Sept(PhysicalMemory memory, int keyId) {
        this.memory = memory;
        this.keyId = keyId;
    }

    /// Where a walk ended.
    ///
    /// @param entryHpa the entry's address with KeyID
    /// @param level    its level: 0 PT, 1 PD, 2 PDPT, 3 PML4, 4 PML5
    /// @param value    the entry when it was read
    public record Slot(PhysicalMemory memory, long entryHpa, int level, long value) {
        public long read() {
            return memory.read(entryHpa, 8);
        }

        public void write(long value) {
            memory.write(entryHpa, 8, value);
        }

        long fetchOr(long bits) {
            return memory.atomics().fetchOr(entryHpa, 8, bits);
        }

        long fetchAnd(long bits) {
            return memory.atomics().fetchAnd(entryHpa, 8, bits);
        }

        boolean compareAndSet(long expected, long value) {
            return memory.atomics().compareAndSet(entryHpa, 8, expected, value);
        }
    }

    /// The tree lock, held.
    public record TreeLock(LockWord word, LockMode mode) implements AutoCloseable {
        @Override public void close() {
            if (mode == LockMode.EXCLUSIVE) {
                Sharex.releaseExclusive(word);
            } else if (mode == LockMode.SHARED) {
                Sharex.releaseShared(word);
            }
        }
    }

    /// A host's lock on one entry; released on close unless the entry was rewritten unlocked.
    public static final class EntryLock implements AutoCloseable {
        private final Slot slot;
        private boolean held = true;

        private EntryLock(Slot slot) {
            this.slot = slot;
        }

        /// Replaces the entry and unlocks it.
        void replace(long value) {
            slot.write(value & ~SeptEntry.LOCK);
            held = false;
        }

        @Override public void close() {
            if (held) {
                slot.fetchAnd(~SeptEntry.LOCK);
            }
        }
    }

    public static TreeLock lockTree(LpState lp, Tdcs tdcs, LockMode mode) throws LeafFailure {
        var word = tdcs.lock(Tdcs.SECURE_EPT_LOCK);
        boolean locked = mode == LockMode.EXCLUSIVE ? Sharex.tryExclusive(lp, word) : Sharex.tryShared(lp, word);
        if (!locked) {
            throw new LeafFailure(TdxStatus.OPERAND_BUSY, OperandId.SEPT_TREE);
        }
        return new TreeLock(word, mode);
    }

    /// Locks an entry for the host; when it is locked already, host priority is requested.
    ///
    /// @return null when busy
    public static EntryLock lockEntry(LpState lp, Slot slot) {
        lp.cpu.switchPoint(slot.memory(), slot.entryHpa());
        if ((slot.fetchOr(SeptEntry.LOCK) & SeptEntry.LOCK) != 0) {
            slot.fetchOr(SeptEntry.HOST_PRIORITY);
            return null;
        }
        slot.fetchAnd(~SeptEntry.HOST_PRIORITY);
        lp.cpu.locked(slot.memory(), slot.entryHpa());
        return new EntryLock(slot);
    }

    /// Locks an entry for the guest.
    ///
    /// @return 0, or the busy status without operand
    public static long lockEntryByGuest(LpState lp, Slot slot) {
        lp.cpu.switchPoint(slot.memory(), slot.entryHpa());
        long value = slot.read();
        if ((value & SeptEntry.LOCK) != 0) {
            return TdxStatus.OPERAND_BUSY.code();
        }
        if ((value & SeptEntry.HOST_PRIORITY) != 0) {
            return TdxStatus.OPERAND_BUSY_HOST_PRIORITY.code();
        }
        if (!slot.compareAndSet(value, value | SeptEntry.LOCK)) {
            return TdxStatus.OPERAND_BUSY.code();
        }
        lp.cpu.locked(slot.memory(), slot.entryHpa());
        return 0;
    }

    /// Walks towards level `target`; stops above it at an entry that is not present or is a leaf.
    public Slot walk(long eptp, long gpa, int target) {
        return walk(eptp, gpa, target, false);
    }

    /// The guest side's walk of an L2 tree goes on through blocked entries: only free ones stop it.
    public Slot walkL2GuestSide(long eptp, long gpa, int target) {
        return walk(eptp, gpa, target, true);
    }

    private Slot walk(long eptp, long gpa, int target, boolean l2GuestSide) {
        long table = eptp & SeptEntry.HPA;
        for (int level = (int) (eptp >>> 3) & 7;; level--) {
            long hpa = PhysicalMemory.hpa(table & ((1L << PhysicalMemory.KEY_ID_SHIFT) - 1), keyId)
                    + 8 * ((gpa >>> (12 + 9 * level)) & 0x1ff);
            long value = memory.read(hpa, 8);
            boolean stop = l2GuestSide ? L2SeptEntry.isFree(value) : !SeptEntry.isPresent(value);
            if (level == target || stop || SeptEntry.isLeaf(value)) {
                return new Slot(memory, hpa, level, value);
            }
            table = value & SeptEntry.HPA;
        }
    }
}
