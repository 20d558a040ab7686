package cloister.tdx.seamcall;

import cloister.spec.tdx.TdxStatus;
import cloister.tdx.core.LeafFailure;
import cloister.tdx.core.LockMode;
import cloister.tdx.core.LpState;
import cloister.tdx.core.MemoryEncryption;
import cloister.tdx.core.ModuleState.SysState;

/// TDH.SYS.KEY.CONFIG, leaf 31: programs the global private key on the package of this LP. The last package makes the module
/// ready. [TDX-ABI "TDH.SYS.KEY.CONFIG"]
final class SysKeyConfig implements HostLeaf {
    @Override public void call(LpState lp, int version) throws LeafFailure {
        var module = lp.module;
        try (var _ = module.lockGlobal(lp, LockMode.EXCLUSIVE)) {
            if (module.sysState != SysState.CONFIG_DONE) {
                throw new LeafFailure(TdxStatus.SYS_KEY_CONFIG_NOT_PENDING);
            }
            int thisPackage = 1 << lp.packageId;
            if ((module.packageConfigBitmap & thisPackage) != 0) {
                throw new LeafFailure(TdxStatus.KEY_CONFIGURED);
            }
            MemoryEncryption.programKey(lp, module.globalKeyId);
            // All checks passed.
            module.packageConfigBitmap |= thisPackage;
            module.initializedPackages++;
            if (module.initializedPackages == module.platform.packages()) {
                module.sysState = SysState.READY;
            }
        }
    }
}
