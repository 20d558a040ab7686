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
import cloister.tdx.core.Tdvps;

/// TDH.VP.ADDCX, leaf 4: one more page for the TDVPS. [TDX-ABI "TDH.VP.ADDCX"]
final class VpAddcx implements HostLeaf {
    @Override public void call(LpState lp, int version) throws LeafFailure {
        var module = lp.module;
        try (var tdvpr = module.lockTdvpr(lp, lp.reg(RDX), LockMode.EXCLUSIVE, OperandId.RDX);
                var tdrPage = module.lockOwner(lp, tdvpr, LockMode.SHARED);
                var td = TdAccess.open(lp, module.tdr(tdrPage.pa()), LockMode.SHARED, SeamcallLeaf.VP_ADDCX)) {
            var vcpu = Tdvps.rootOnly(module.memory, tdvpr.pa(), td.tdr().keyId());
            if (vcpu.state() != Tdvps.UNINITIALIZED) {
                throw new LeafFailure(TdxStatus.VCPU_STATE_INCORRECT);
            }
            int index = vcpu.u8(Tdvps.NUM_PAGES);
            if (index >= Tdvps.MAX_PAGES) {
                throw new LeafFailure(TdxStatus.TDCX_NUM_INCORRECT);
            }
            try (var page = module.lockFree(lp, lp.reg(RCX), OperandId.RCX)) {
                // All checks passed; nothing below may fail.
                long hpa = td.tdr().withKey(page.pa());
                module.fillPage(hpa, isL2MsrBitmap(index) ? -1L : 0);
                vcpu.u64(Tdvps.PAGE_PA + 8 * index, hpa);
                vcpu.u8(Tdvps.NUM_PAGES, index + 1);
                td.tdr().addChildren(1);
                page.entry().assign(PageType.TDCX, tdrPage.pa());
            }
        }
    }

    /// Of the three pages of each L2 VM the first is the VMCS; the others are MSR bitmaps, in which all accesses exit.
    private static boolean isL2MsrBitmap(int index) {
        return index >= Tdvps.MIN_PAGES && (index - Tdvps.MIN_PAGES) % Tdvps.PAGES_PER_L2_VM != 0;
    }
}
