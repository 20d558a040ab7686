package cloister.tdx.seamcall;

import static cloister.tdx.core.LpState.RCX;
import static cloister.tdx.core.LpState.RDX;

import cloister.spec.tdx.OperandId;
import cloister.spec.tdx.SeamcallLeaf;
import cloister.spec.tdx.TdxStatus;
import cloister.tdx.core.LeafFailure;
import cloister.tdx.core.LockMode;
import cloister.tdx.core.LpState;
import cloister.tdx.core.TdAccess;
import cloister.tdx.core.Tdcs;

/// TDH.EXPORT.STATE.IMMUTABLE, leaf 72, as far as it goes before the export begins. [TDX-ABI "TDH.EXPORT.STATE.IMMUTABLE"]
final class ExportStateImmutable implements HostLeaf {
    private static final int MIN_PAGES = 4;

    @Override public void call(LpState lp, int version) throws LeafFailure {
        lp.reg(RDX, 0);
        try (var page = lp.module.lockTdr(lp, lp.reg(RCX), LockMode.SHARED, OperandId.RCX);
                var td = TdAccess.open(lp, lp.module.tdr(page.pa()), LockMode.EXCLUSIVE, SeamcallLeaf.EXPORT_STATE_IMMUTABLE);
                var migration = MigrationLock.lock(lp, td.tdcs())) {
            requireMigratable(td.tdcs());
            MigrationOperands.mbmd(lp);
            MigrationOperands.firstStream(lp);
            try (var stream = MigrationStream.lock(lp, td.tdcs(), MigrationStream.FIRST_FORWARD)) {
                if (!MigrationOperands.isResumption(lp)) {
                    MigrationOperands.pageList(lp, MIN_PAGES);
                    if (!td.tdcs().flag(Tdcs.MIG_DEC_KEY_SET)) {
                        throw new LeafFailure(TdxStatus.MIGRATION_DECRYPTION_KEY_NOT_SET);
                    }
                } else if (!stream.isInitialized()) {
                    throw new LeafFailure(TdxStatus.MIGRATION_STREAM_STATE_INCORRECT);
                }
                throw MigrationSessionLeaf.notModelled(SeamcallLeaf.EXPORT_STATE_IMMUTABLE);
            }
        }
    }

    private static void requireMigratable(Tdcs tdcs) throws LeafFailure {
        if (!tdcs.hasAttribute(Tdcs.MIGRATABLE)) {
            throw new LeafFailure(TdxStatus.TD_NOT_MIGRATABLE);
        }
        if (tdcs.u64(Tdcs.MIG_COUNT) != 0) {
            throw new LeafFailure(TdxStatus.PREVIOUS_EXPORT_CLEANUP_INCOMPLETE);
        }
        if (tdcs.u16(Tdcs.NUM_MIGS) < MigrationStream.MIN_STREAMS) {
            throw new LeafFailure(TdxStatus.MIN_MIGS_NOT_CREATED);
        }
    }
}
