package cloister.tdx.seamcall;

import cloister.spec.tdx.TdxStatus;
import cloister.tdx.core.LeafFailure;
import cloister.tdx.core.LockMode;
import cloister.tdx.core.LpState;
import cloister.tdx.core.ModuleState.SysState;

/// TDH.SYS.UPDATE, leaf 53: takes over from a module that was shut down. There is never one that left handoff data.
/// [TDX-ABI "TDH.SYS.UPDATE"]
final class SysUpdate implements HostLeaf {
    @Override public void call(LpState lp, int version) throws LeafFailure {
        var module = lp.module;
        try (var _ = module.lockGlobal(lp, LockMode.EXCLUSIVE)) {
            if (module.sysState != SysState.INIT_DONE
                    || module.initializedLps < module.platform.logicalProcessors()) {
                throw new LeafFailure(TdxStatus.SYS_STATE_INCORRECT);
            }
            throw new LeafFailure(TdxStatus.SYS_INVALID_HANDOFF);
        }
    }
}
