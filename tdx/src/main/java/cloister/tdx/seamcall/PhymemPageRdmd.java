package cloister.tdx.seamcall;

import static cloister.tdx.core.LpState.R10;
import static cloister.tdx.core.LpState.R11;
import static cloister.tdx.core.LpState.R8;
import static cloister.tdx.core.LpState.R9;
import static cloister.tdx.core.LpState.RCX;
import static cloister.tdx.core.LpState.RDX;

import cloister.spec.tdx.OperandId;
import cloister.tdx.core.LeafFailure;
import cloister.tdx.core.LockMode;
import cloister.tdx.core.LpState;
import cloister.tdx.core.PageType;

/// TDH.PHYMEM.PAGE.RDMD, leaf 24: reads the PAMT entry of a page. [TDX-ABI "TDH.PHYMEM.PAGE.RDMD"]
final class PhymemPageRdmd implements HostLeaf {
    @Override public void call(LpState lp, int version) throws LeafFailure {
        long pa = lp.reg(RCX);
        lp.clear(RCX, RDX, R8, R9, R10, R11);
        try (var page = lp.module.pamt.lockLeaf(lp, pa, LockMode.SHARED, OperandId.RCX)) {
            int type = page.entry().type();
            lp.reg(RCX, type);
            lp.reg(RDX, page.entry().ownerPa()); // of a free page: the last owner
            lp.reg(R8, page.size());
            if (type == PageType.REG || type == PageType.EPT) {
                lp.reg(R9, page.entry().bepoch());
            }
        }
    }
}
