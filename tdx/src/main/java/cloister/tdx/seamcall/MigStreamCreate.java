package cloister.tdx.seamcall;

import static cloister.tdx.core.LpState.RCX;
import static cloister.tdx.core.LpState.RDX;

import cloister.spec.tdx.OperandId;
import cloister.spec.tdx.SeamcallLeaf;
import cloister.spec.tdx.TdxStatus;
import cloister.tdx.core.LeafFailure;
import cloister.tdx.core.LockMode;
import cloister.tdx.core.LpState;
import cloister.tdx.core.PageType;
import cloister.tdx.core.TdAccess;
import cloister.tdx.core.Tdcs;

/// TDH.MIG.STREAM.CREATE, leaf 96: adds the context page of a migration stream. [TDX-ABI "TDH.MIG.STREAM.CREATE"]
final class MigStreamCreate implements HostLeaf {
    @Override public void call(LpState lp, int version) throws LeafFailure {
        try (var tdrPage = lp.module.lockTdr(lp, lp.reg(RDX), LockMode.SHARED, OperandId.RDX);
                var td = TdAccess.open(lp, lp.module.tdr(tdrPage.pa()), LockMode.EXCLUSIVE, SeamcallLeaf.MIG_STREAM_CREATE);
                var migration = MigrationLock.lock(lp, td.tdcs())) {
            int index = td.tdcs().u16(Tdcs.NUM_MIGS);
            if (index >= MigrationStream.MAX_STREAMS) {
                throw new LeafFailure(TdxStatus.MAX_MIGS_NUM_EXCEEDED);
            }
            try (var page = lp.module.lockFree(lp, lp.reg(RCX), OperandId.RCX)) {
                // All checks passed; nothing below may fail.
                long hpa = td.tdr().withKey(page.pa());
                lp.module.fillPage(hpa, 0);
                lp.module.memory.write(hpa, Short.BYTES, index);
                td.tdr().addChildren(1);
                page.entry().assign(PageType.TDCX, tdrPage.pa());
                MigrationStream.create(td.tdcs(), index, page.pa());
                td.tdcs().u16(Tdcs.NUM_MIGS, index + 1);
            }
        }
    }
}
