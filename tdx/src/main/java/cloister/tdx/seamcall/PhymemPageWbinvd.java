package cloister.tdx.seamcall;

import static cloister.tdx.core.LpState.RCX;

import cloister.spec.tdx.OperandId;
import cloister.tdx.core.LeafFailure;
import cloister.tdx.core.LockMode;
import cloister.tdx.core.LpState;
import cloister.tdx.core.PageType;
import cloister.tdx.core.Pamt;

/// TDH.PHYMEM.PAGE.WBINVD, leaf 41: flushes the cache lines of a free page. The KeyID in the address says under which key they are
/// cached, any will do. [TDX-ABI "TDH.PHYMEM.PAGE.WBINVD"]
final class PhymemPageWbinvd implements HostLeaf {
    @Override public void call(LpState lp, int version) throws LeafFailure {
        long pa = lp.reg(RCX) & ~lp.module.config.keyIdMask;
        try (var _ = lp.module.pamt.lock(lp, pa, Pamt.SIZE_4K, LockMode.SHARED, PageType.NDA, OperandId.RCX)) {
            // Caches are coherent with memory here: nothing is left to flush.
        }
    }
}
