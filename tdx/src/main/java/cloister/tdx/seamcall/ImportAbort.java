package cloister.tdx.seamcall;

import static cloister.tdx.core.LpState.R10;
import static cloister.tdx.core.LpState.RCX;

import cloister.spec.tdx.OperandId;
import cloister.spec.tdx.SeamcallLeaf;
import cloister.spec.tdx.TdxStatus;
import cloister.tdx.core.LeafFailure;
import cloister.tdx.core.LockMode;
import cloister.tdx.core.LpState;
import cloister.tdx.core.TdAccess;

/// TDH.IMPORT.ABORT, leaf 80, as far as it goes before it makes the abort token. [TDX-ABI "TDH.IMPORT.ABORT"]
final class ImportAbort implements HostLeaf {
    @Override public void call(LpState lp, int version) throws LeafFailure {
        try (var page = lp.module.lockTdr(lp, lp.reg(RCX), LockMode.EXCLUSIVE, OperandId.RCX);
                var td = TdAccess.open(lp, lp.module.tdr(page.pa()), LockMode.NONE, SeamcallLeaf.IMPORT_ABORT)) {
            if (lp.reg(R10) != 0) {
                throw new LeafFailure(TdxStatus.OPERAND_INVALID, OperandId.R10);
            }
            MigrationOperands.mbmd(lp);
            try (var stream = MigrationStream.lock(lp, td.tdcs(), MigrationStream.BACKWARD)) {
                throw MigrationSessionLeaf.notModelled(SeamcallLeaf.IMPORT_ABORT);
            }
        }
    }
}
