package cloister.tdx.seamcall;

import static cloister.tdx.core.LpState.R8;
import static cloister.tdx.core.LpState.RCX;
import static cloister.tdx.core.LpState.RDX;

import cloister.spec.tdx.OperandId;
import cloister.spec.tdx.TdxStatus;
import cloister.tdx.core.KeyOwnership;
import cloister.tdx.core.LeafFailure;
import cloister.tdx.core.LockMode;
import cloister.tdx.core.LpState;
import cloister.tdx.core.ModuleState.SysState;
import cloister.tdx.core.TdmrCheck;
import cloister.tdx.core.TdmrInfo;

/// TDH.SYS.CONFIG, leaf 45: takes the TDMRs and the global private KeyID. [TDX-ABI "TDH.SYS.CONFIG"]
final class SysConfig implements HostLeaf {
    /// The array of TDMR_INFO addresses and each TDMR_INFO are aligned to this and do not cross it.
    private static final int TDMR_INFO_ALIGNMENT = 512;

    @Override public void call(LpState lp, int version) throws LeafFailure {
        var module = lp.module;
        long infos = lp.reg(RCX);
        long count = lp.reg(RDX);
        long keyId = lp.reg(R8);
        try (var _ = module.lockGlobal(lp, LockMode.EXCLUSIVE)) {
            if (module.sysState != SysState.INIT_DONE
                    || module.initializedLps < module.platform.logicalProcessors()) {
                throw new LeafFailure(TdxStatus.SYS_CONFIG_NOT_PENDING);
            }
            module.requireShared(infos, TDMR_INFO_ALIGNMENT, OperandId.RCX);
            if (Long.compareUnsigned(count, TdmrInfo.MAX_TDMRS) > 0 || count == 0) {
                throw new LeafFailure(TdxStatus.OPERAND_INVALID, OperandId.RDX);
            }
            if (keyId >>> 16 != 0 || !module.isPrivateKeyId((int) keyId)) {
                throw new LeafFailure(TdxStatus.OPERAND_INVALID, OperandId.R8);
            }
            // A KeyID stays reserved even if a TDMR is refused below.
            module.keys.state((int) keyId, KeyOwnership.State.RESERVED);
            module.globalKeyId = (int) keyId;
            var check = new TdmrCheck(module);
            for (int i = 0; i < count; i++) {
                long info = module.memory.read(infos + 8L * i, 8);
                module.requireShared(info, TDMR_INFO_ALIGNMENT, OperandId.RCX);
                check.add(TdmrInfo.read(module.memory, info));
            }
            // All checks passed.
            module.tdmrs = check.tdmrs();
            module.config.completeCpuid();
            module.packageConfigBitmap = 0;
            module.sysState = SysState.CONFIG_DONE;
        }
    }
}
