package cloister.tdx.seamcall;

import static cloister.tdx.core.LpState.RCX;

import cloister.spec.tdx.OperandId;
import cloister.spec.tdx.TdxStatus;
import cloister.tdx.core.LeafFailure;
import cloister.tdx.core.LockMode;
import cloister.tdx.core.LpState;
import cloister.tdx.core.MemoryEncryption;
import cloister.tdx.core.Tdr;

/// TDH.MNG.KEY.CONFIG, leaf 8: gives the TD's KeyID a key on the package of this LP. [TDX-ABI "TDH.MNG.KEY.CONFIG"]
final class MngKeyConfig implements HostLeaf {
    @Override public void call(LpState lp, int version) throws LeafFailure {
        var module = lp.module;
        try (var page = module.lockTdr(lp, lp.reg(RCX), LockMode.EXCLUSIVE, OperandId.RCX)) {
            var tdr = module.tdr(page.pa());
            if (tdr.fatal()) {
                throw new LeafFailure(TdxStatus.TD_FATAL);
            }
            if (tdr.lifecycleState() != Tdr.HKID_ASSIGNED) {
                throw new LeafFailure(TdxStatus.LIFECYCLE_STATE_INCORRECT);
            }
            long ownPackage = 1L << lp.packageId;
            if ((tdr.u64(Tdr.PKG_CONFIG_BITMAP) & ownPackage) != 0) {
                throw new LeafFailure(TdxStatus.KEY_CONFIGURED);
            }
            MemoryEncryption.programKey(lp, tdr.keyId());
            // All checks passed; nothing below may fail.
            long configured = tdr.u64(Tdr.PKG_CONFIG_BITMAP) | ownPackage;
            tdr.u64(Tdr.PKG_CONFIG_BITMAP, configured);
            if (configured == module.packageConfigBitmap) {
                tdr.u32(Tdr.LIFECYCLE_STATE, Tdr.KEYS_CONFIGURED);
            }
        }
    }
}
