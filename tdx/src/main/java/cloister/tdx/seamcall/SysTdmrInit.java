package cloister.tdx.seamcall;

import static cloister.tdx.core.LpState.RCX;
import static cloister.tdx.core.LpState.RDX;

import cloister.spec.tdx.OperandId;
import cloister.spec.tdx.TdxStatus;
import cloister.tdx.core.LeafFailure;
import cloister.tdx.core.LockMode;
import cloister.tdx.core.LpState;
import cloister.tdx.core.ModuleState;
import cloister.tdx.core.Pamt;
import cloister.tdx.core.Sharex;
import cloister.tdx.core.Tdmr;

/// TDH.SYS.TDMR.INIT, leaf 36: initialises the next part of a TDMR's PAMT, few enough entries to keep the call short.
/// [TDX-ABI "TDH.SYS.TDMR.INIT"]
final class SysTdmrInit implements HostLeaf {
    private static final int ENTRIES_PER_CALL = 1024;
    private static final long GIB = 1L << 30;

    @Override public void call(LpState lp, int version) throws LeafFailure {
        var module = lp.module;
        lp.reg(RDX, 0);
        var tdmr = find(module, lp.reg(RCX));
        long busy = TdxStatus.OPERAND_BUSY.with(OperandId.RCX);
        try (var _ = Sharex.hold(lp, tdmr.lock, LockMode.EXCLUSIVE, busy)) {
            if (tdmr.lastInitialized >= tdmr.info.base() + tdmr.info.size()) {
                throw new LeafFailure(TdxStatus.TDMR_ALREADY_INITIALIZED);
            }
            module.pamt.initialize(tdmr, ENTRIES_PER_CALL);
            tdmr.lastInitialized += ENTRIES_PER_CALL * Pamt.bytes(Pamt.SIZE_4K);
            lp.reg(RDX, tdmr.lastInitialized & -GIB); // memory is usable by whole GiB only
        }
    }

    private static Tdmr find(ModuleState module, long pa) throws LeafFailure {
        if (module.isPageAddress(pa, GIB)) {
            for (var tdmr : module.tdmrs) {
                if (tdmr.info.base() == pa) {
                    return tdmr;
                }
            }
        }
        throw new LeafFailure(TdxStatus.OPERAND_INVALID, OperandId.RCX);
    }
}
