package cloister.tdx.seamcall;

import static cloister.tdx.core.LpState.RCX;

import cloister.spec.tdx.OperandId;
import cloister.spec.tdx.TdxStatus;
import cloister.tdx.core.LeafFailure;
import cloister.tdx.core.LockMode;
import cloister.tdx.core.LpState;
import cloister.tdx.core.ModuleState.SysState;
import cloister.tdx.core.ModuleVersion;

/// TDH.SYS.SHUTDOWN, leaf 52: ends the module so that another can take over its TDs. [TDX-ABI "TDH.SYS.SHUTDOWN"]
///
/// Handoff data is not modelled: nobody reads it, because the module that would take over is not loaded either.
final class SysShutdown implements HostLeaf {
    @Override public void call(LpState lp, int version) throws LeafFailure {
        var module = lp.module;
        if (lp.reg(RCX) != ModuleVersion.HANDOFF) {
            throw new LeafFailure(TdxStatus.OPERAND_INVALID, OperandId.RCX);
        }
        try (var _ = module.lockGlobal(lp, LockMode.EXCLUSIVE)) {
            if (module.busyLps > 1) { // an LP that runs a TD counts
                throw new LeafFailure(TdxStatus.SYS_BUSY);
            }
            // All checks passed.
            module.sysState = SysState.SHUTDOWN;
        }
    }
}
