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
import cloister.tdx.core.SeptEntry;
import cloister.tdx.core.Tdcs;
import cloister.tdx.core.Tdr;

/// TDH.MNG.ADDCX, leaf 1: one more page for the TDCS. [TDX-ABI "TDH.MNG.ADDCX"]
final class MngAddcx implements HostLeaf {
    private static final int KEY_WORDS = 4;

    @Override public void call(LpState lp, int version) throws LeafFailure {
        var module = lp.module;
        try (var tdrPage = module.lockTdr(lp, lp.reg(RDX), LockMode.EXCLUSIVE, OperandId.RDX)) {
            var tdr = module.tdr(tdrPage.pa());
            if (tdr.fatal()) {
                throw new LeafFailure(TdxStatus.TD_FATAL);
            }
            if (tdr.lifecycleState() != Tdr.KEYS_CONFIGURED) {
                throw new LeafFailure(TdxStatus.TD_KEYS_NOT_CONFIGURED);
            }
            int index = tdr.numTdcx();
            if (index >= Tdcs.MAX_PAGES) {
                throw new LeafFailure(TdxStatus.TDCX_NUM_INCORRECT);
            }
            try (var page = module.lockFree(lp, lp.reg(RCX), OperandId.RCX)) {
                long hpa = tdr.withKey(page.pa());
                module.fillPage(hpa, initialWord(index));
                // The state is known only to a TDCS that had its pages before; the new page is overwritten whatever the state is.
                if (index >= Tdcs.MIN_PAGES && !new Tdcs(module.memory, tdr).opState().allows(SeamcallLeaf.MNG_ADDCX)) {
                    throw new LeafFailure(TdxStatus.OP_STATE_INCORRECT);
                }
                // All checks passed; nothing below may fail.
                tdr.u64(Tdr.TDCX_PA + 8 * index, hpa);
                tdr.u32(Tdr.NUM_TDCX, index + 1);
                if (index + 1 == Tdcs.MIN_PAGES) {
                    var tdcs = new Tdcs(module.memory, tdr);
                    for (int i = 0; i < KEY_WORDS; i++) {
                        tdcs.u64(Tdcs.MIG_ENC_KEY + 8 * i, lp.cpu.rdseed());
                    }
                }
                tdr.addChildren(1);
                page.entry().assign(PageType.TDCX, tdrPage.pa());
            }
        }
    }

    private static long initialWord(int index) {
        return switch (index) {
            case Tdcs.MSR_BITMAPS_PAGE -> -1L;
            case Tdcs.SEPT_ROOT_PAGE -> SeptEntry.INIT;
            default -> SeptEntry.L2_INIT;
        };
    }
}
