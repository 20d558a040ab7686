package cloister.tdx.seamcall;

import static cloister.tdx.core.LpState.R8;
import static cloister.tdx.core.LpState.RCX;
import static cloister.tdx.core.LpState.RDX;

import cloister.spec.tdx.TdxStatus;
import cloister.tdx.core.LeafFailure;
import cloister.tdx.core.LockMode;
import cloister.tdx.core.LpState;
import cloister.tdx.core.ModuleState.SysState;
import cloister.tdx.core.ModuleState;
import cloister.tdx.core.PlatformConsistency;

/// TDH.SYS.LP.INIT, leaf 35: prepares one LP and checks that it is like the one that executed TDH.SYS.INIT.
/// [TDX-ABI "TDH.SYS.LP.INIT"]
final class SysLpInit implements HostLeaf {
    @Override public void call(LpState lp, int version) throws LeafFailure {
        var module = lp.module;
        lp.clear(RCX, RDX, R8);
        try (var _ = module.lockGlobal(lp, LockMode.SHARED)) {
            if (module.sysState != SysState.INIT_DONE) {
                throw new LeafFailure(TdxStatus.SYS_LP_INIT_NOT_PENDING);
            }
            if (lp.initialized) {
                throw new LeafFailure(TdxStatus.SYS_LP_INIT_DONE);
            }
            lp.lastTdvprPa = ModuleState.NULL_PA;
            int seed = (int) lp.cpu.rdrand();
            if (seed == 0) {
                throw new LeafFailure(TdxStatus.RND_NO_ENTROPY);
            }
            lp.lfsr = seed;
            lp.cpu.inveptGlobal();
            new PlatformConsistency(lp).run();
            // All checks passed.
            lp.initialized = true;
            module.initializedLps++;
            lp.guestRcxOnEntry = 0;
        }
    }
}
