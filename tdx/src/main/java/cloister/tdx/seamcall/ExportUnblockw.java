package cloister.tdx.seamcall;

import static cloister.tdx.core.LpState.RCX;
import static cloister.tdx.core.LpState.RDX;

import cloister.spec.tdx.SeamcallLeaf;
import cloister.spec.tdx.SeptState;
import cloister.spec.tdx.TdxStatus;
import cloister.tdx.core.LeafFailure;
import cloister.tdx.core.LockMode;
import cloister.tdx.core.LpState;
import cloister.tdx.core.SeptTarget;

/// TDH.EXPORT.UNBLOCKW, leaf 75: no page is blocked for writing without an export. [TDX-ABI "TDH.EXPORT.UNBLOCKW"]
final class ExportUnblockw implements HostLeaf {
    @Override public void call(LpState lp, int version) throws LeafFailure {
        long info = lp.reg(RCX);
        long tdrPa = lp.reg(RDX);
        lp.reg(RCX, 0);
        lp.reg(RDX, 0);
        try (var target = SeptTarget.open(lp, SeamcallLeaf.EXPORT_UNBLOCKW, info, tdrPa, 0, 0, LockMode.SHARED)) {
            if (!SeptState.of(target.entry).allows(SeamcallLeaf.EXPORT_UNBLOCKW)) {
                throw target.fail(TdxStatus.EPT_ENTRY_STATE_INCORRECT);
            }
            throw MigrationSessionLeaf.notModelled(SeamcallLeaf.EXPORT_UNBLOCKW);
        } catch (LeafFailure failure) {
            if (TdxStatus.OPERAND_BUSY.matches(failure.status())) {
                lp.reg(RCX, 0); // An entry that is locked is not reported.
                lp.reg(RDX, 0);
            }
            throw failure;
        }
    }
}
