package cloister.tdx.seamcall;

import static cloister.tdx.core.LpState.RCX;
import static cloister.tdx.core.LpState.RDX;

import cloister.spec.tdx.OperandId;
import cloister.spec.tdx.SeamcallLeaf;
import cloister.tdx.core.LeafFailure;
import cloister.tdx.core.LockMode;
import cloister.tdx.core.LpState;
import cloister.tdx.core.PageType;
import cloister.tdx.core.TdAccess;
import cloister.tdx.core.Tdvps;

/// TDH.VP.CREATE, leaf 10: the TDVPR page of a new VCPU. [TDX-ABI "TDH.VP.CREATE"]
final class VpCreate implements HostLeaf {
    @Override public void call(LpState lp, int version) throws LeafFailure {
        var module = lp.module;
        try (var tdrPage = module.lockTdr(lp, lp.reg(RDX), LockMode.SHARED, OperandId.RDX);
                var td = TdAccess.open(lp, module.tdr(tdrPage.pa()), LockMode.SHARED, SeamcallLeaf.VP_CREATE);
                var page = module.lockFree(lp, lp.reg(RCX), OperandId.RCX)) {
            // All checks passed; nothing below may fail.
            long hpa = td.tdr().withKey(page.pa());
            module.fillPage(hpa, 0);
            var vcpu = Tdvps.rootOnly(module.memory, page.pa(), td.tdr().keyId());
            vcpu.u8(Tdvps.NUM_PAGES, 1);
            vcpu.u32(Tdvps.ASSOC_LPID, Tdvps.NO_LP);
            vcpu.u64(Tdvps.PAGE_PA, hpa);
            td.tdr().addChildren(1);
            page.entry().assign(PageType.TDVPR, tdrPage.pa());
        }
    }
}
