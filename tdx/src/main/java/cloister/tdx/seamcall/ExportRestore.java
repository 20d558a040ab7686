package cloister.tdx.seamcall;

import static cloister.tdx.core.LpState.RCX;
import static cloister.tdx.core.LpState.RDX;

import cloister.memory.PhysicalMemory;
import cloister.spec.tdx.OperandId;
import cloister.spec.tdx.SeamcallLeaf;
import cloister.spec.tdx.SeptState;
import cloister.spec.tdx.TdxStatus;
import cloister.tdx.core.Gpa;
import cloister.tdx.core.LeafFailure;
import cloister.tdx.core.LockMode;
import cloister.tdx.core.LpState;
import cloister.tdx.core.Sept;
import cloister.tdx.core.SeptEntry;
import cloister.tdx.core.TdAccess;

/// TDH.EXPORT.RESTORE, leaf 66: makes pages of a list what they were before an export that was aborted.
/// [TDX-ABI "TDH.EXPORT.RESTORE"]
///
/// Without an export there is nothing to restore; what the list asks for nevertheless is answered entry by entry.
final class ExportRestore implements HostLeaf {
    /// GPA_LIST_INFO: format 2:0, first entry 11:3, list 51:12, last entry 63:55.
    private static final long FORMAT = 7;
    private static final int FIRST_SHIFT = 3;
    private static final int LAST_SHIFT = 55;
    private static final long INDEX = 0x1ff;
    private static final long INFO_RESERVED = 7L << 52;
    /// An entry of the list: level 1:0, GPA 51:12, operation 53:52, status 60:56.
    private static final long LEVEL = 3;
    private static final long ENTRY_RESERVED = (0xf << 3) | (3L << 54) | (7L << 61);
    private static final int OPERATION_SHIFT = 52;
    private static final long OPERATION = 3L << OPERATION_SHIFT;
    private static final long MIGRATE = 1L << OPERATION_SHIFT;
    private static final int STATUS_SHIFT = 56;
    private static final long STATUS = 0x1fL << STATUS_SHIFT;
    // Values of the status
    private static final int SUCCESS = 0;
    private static final int SKIPPED = 1;
    private static final int SEPT_WALK_FAILED = 2;
    private static final int SEPT_ENTRY_BUSY = 3;
    private static final int SEPT_ENTRY_STATE_INCORRECT = 4;
    private static final int LIST_ENTRY_INVALID = 15;

    @Override public void call(LpState lp, int version) throws LeafFailure {
        long info = lp.reg(RCX);
        try (var page = lp.module.lockTdr(lp, lp.reg(RDX), LockMode.SHARED, OperandId.RDX);
                var td = TdAccess.open(lp, lp.module.tdr(page.pa()), LockMode.SHARED, SeamcallLeaf.EXPORT_RESTORE);
                var tree = Sept.lockTree(lp, td.tdcs(), LockMode.SHARED)) {
            long first = (info >>> FIRST_SHIFT) & INDEX;
            long last = info >>> LAST_SHIFT;
            if ((info & (FORMAT | INFO_RESERVED)) != 0 || first > last) {
                throw new LeafFailure(TdxStatus.OPERAND_INVALID, OperandId.RCX);
            }
            long list = info & SeptEntry.HPA;
            lp.module.requireShared(list, PhysicalMemory.FRAME_SIZE, OperandId.RCX);
            restore(lp, td, info, first, last);
        }
    }

    /// Leaves the first entry that is not done in RCX, and the number of entries that failed as the status' detail.
    private static void restore(LpState lp, TdAccess td, long info, long first, long last) throws LeafFailure {
        long list = info & SeptEntry.HPA;
        long at = first;
        int problems = 0;
        try {
            while (true) {
                int status = restore(lp, td, list + Long.BYTES * at);
                if (status == LIST_ENTRY_INVALID) {
                    throw new LeafFailure(TdxStatus.OPERAND_INVALID, OperandId.GPA_LIST_ENTRY);
                }
                problems += status == SUCCESS || status == SKIPPED ? 0 : 1;
                at++;
                if (at > last) {
                    break;
                }
                if (lp.hostInterruptPending()) {
                    throw new LeafFailure(TdxStatus.INTERRUPTED_RESUMABLE);
                }
            }
        } finally {
            lp.reg(RCX, (info & ~(INDEX << FIRST_SHIFT)) | ((at & INDEX) << FIRST_SHIFT));
        }
        if (problems != 0) {
            throw new LeafFailure(TdxStatus.SUCCESS, problems);
        }
    }

    /// @return the status that the entry gets
    private static int restore(LpState lp, TdAccess td, long entryHpa) {
        var memory = lp.module.memory;
        long entry = memory.read(entryHpa, Long.BYTES);
        int status = perform(lp, td, entry);
        long done = (entry & ~STATUS) | ((long) status << STATUS_SHIFT);
        memory.write(entryHpa, Long.BYTES, status == SUCCESS ? done : done & ~OPERATION);
        return status;
    }

    private static int perform(LpState lp, TdAccess td, long entry) {
        long gpa = entry & SeptEntry.HPA;
        boolean wanted = (entry & MIGRATE) != 0;
        if ((entry & (LEVEL | ENTRY_RESERVED)) != 0 || (wanted && !Gpa.isValid(gpa, td.tdcs(), true))) {
            return LIST_ENTRY_INVALID;
        }
        if (!wanted) {
            return SKIPPED;
        }
        var slot = td.sept().walk(td.tdcs().eptp(), gpa, 0);
        if (slot.level() != 0) {
            return SEPT_WALK_FAILED;
        }
        try (var lock = Sept.lockEntry(lp, slot)) {
            if (lock == null) {
                return SEPT_ENTRY_BUSY;
            }
            if (!SeptState.of(slot.read()).allows(SeamcallLeaf.EXPORT_RESTORE)) {
                return SEPT_ENTRY_STATE_INCORRECT;
            }
            throw MigrationSessionLeaf.notModelled(SeamcallLeaf.EXPORT_RESTORE);
        }
    }
}
