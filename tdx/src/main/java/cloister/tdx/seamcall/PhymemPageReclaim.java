package cloister.tdx.seamcall;

import static cloister.tdx.core.LpState.R10;
import static cloister.tdx.core.LpState.R11;
import static cloister.tdx.core.LpState.R8;
import static cloister.tdx.core.LpState.R9;
import static cloister.tdx.core.LpState.RCX;
import static cloister.tdx.core.LpState.RDX;

import cloister.spec.tdx.OperandId;
import cloister.spec.tdx.TdxStatus;
import cloister.tdx.core.LeafFailure;
import cloister.tdx.core.LockMode;
import cloister.tdx.core.LockedPage;
import cloister.tdx.core.LpState;
import cloister.tdx.core.PageType;
import cloister.tdx.core.Pamt;
import cloister.tdx.core.Tdr;

/// TDH.PHYMEM.PAGE.RECLAIM, leaf 28: takes a page from a TD that is torn down; the TDR page comes last.
/// [TDX-ABI "TDH.PHYMEM.PAGE.RECLAIM"]
final class PhymemPageReclaim implements HostLeaf {
    @Override public void call(LpState lp, int version) throws LeafFailure {
        long pa = lp.reg(RCX);
        lp.clear(RCX, RDX, R8, R9, R10, R11);
        try (var page = lp.module.pamt.lockLeaf(lp, pa, LockMode.EXCLUSIVE, OperandId.RCX)) {
            int type = page.entry().type();
            if (type == PageType.NDA || type == PageType.RSVD) {
                throw new LeafFailure(TdxStatus.PAGE_METADATA_INCORRECT, OperandId.RCX);
            }
            lp.reg(RCX, type);
            lp.reg(RDX, page.entry().ownerPa());
            lp.reg(R8, page.size());
            if ((pa & (Pamt.bytes(page.size()) - 1)) != 0) {
                throw new LeafFailure(TdxStatus.OPERAND_INVALID, OperandId.RCX);
            }
            if (type == PageType.TDR) {
                requireChildless(lp.module.tdr(pa));
            } else {
                leaveOwner(lp, page);
            }
            page.entry().type(PageType.NDA);
            lp.module.forget(pa);
        }
    }

    private static void requireTeardown(Tdr tdr) throws LeafFailure {
        if (tdr.lifecycleState() != Tdr.TEARDOWN) {
            throw new LeafFailure(TdxStatus.LIFECYCLE_STATE_INCORRECT);
        }
    }

    private static void requireChildless(Tdr tdr) throws LeafFailure {
        requireTeardown(tdr);
        if (tdr.u64(Tdr.CHLDCNT) != 0) {
            throw new LeafFailure(TdxStatus.TD_ASSOCIATED_PAGES_EXIST);
        }
    }

    private static void leaveOwner(LpState lp, LockedPage page) throws LeafFailure {
        try (var owner = lp.module.lockOwner(lp, page, LockMode.SHARED)) {
            var tdr = lp.module.tdr(owner.pa());
            requireTeardown(tdr);
            tdr.addChildren(-(1L << (9 * page.size())));
        }
    }
}
