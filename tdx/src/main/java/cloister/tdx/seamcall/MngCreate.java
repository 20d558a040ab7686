package cloister.tdx.seamcall;

import static cloister.tdx.core.LpState.RCX;
import static cloister.tdx.core.LpState.RDX;

import cloister.spec.tdx.OperandId;
import cloister.spec.tdx.TdxStatus;
import cloister.tdx.core.KeyOwnership;
import cloister.tdx.core.LeafFailure;
import cloister.tdx.core.LpState;
import cloister.tdx.core.ModuleVersion;
import cloister.tdx.core.PageType;
import cloister.tdx.core.Tdr;

/// TDH.MNG.CREATE, leaf 9: a TDR page and a KeyID for a new TD. [TDX-ABI "TDH.MNG.CREATE"]
final class MngCreate implements HostLeaf {
    private static final int UUID_WORDS = 4;

    @Override public void call(LpState lp, int version) throws LeafFailure {
        var module = lp.module;
        long keyId = lp.reg(RDX);
        if (keyId >>> 16 != 0 || !module.isPrivateKeyId((int) keyId)) {
            throw new LeafFailure(TdxStatus.OPERAND_INVALID, OperandId.RDX);
        }
        try (var page = module.lockFree(lp, lp.reg(RCX), OperandId.RCX);
                var _ = module.keys.lockExclusive(lp)) {
            if (module.keys.state((int) keyId) != KeyOwnership.State.FREE) {
                throw new LeafFailure(TdxStatus.HKID_NOT_FREE);
            }
            var tdr = module.tdr(page.pa());
            module.fillPage(tdr.pages[0], 0);
            for (int i = 0; i < UUID_WORDS; i++) {
                tdr.u64(Tdr.TD_UUID + 8 * i, lp.cpu.rdseed());
            }
            // All checks passed; nothing below may fail.
            module.keys.state((int) keyId, KeyOwnership.State.ASSIGNED);
            tdr.u16(Tdr.HKID, (int) keyId);
            tdr.u32(Tdr.LIFECYCLE_STATE, Tdr.HKID_ASSIGNED);
            tdr.u64(Tdr.SEAMDB_INDEX, ModuleVersion.SEAMDB_INDEX);
            for (int i = 0; i < UUID_WORDS; i++) {
                tdr.u64(Tdr.SEAMDB_NONCE + 8 * i, ModuleVersion.SEAMDB_NONCE);
            }
            tdr.u16(Tdr.HANDOFF_VERSION, ModuleVersion.HANDOFF);
            page.entry().assign(PageType.TDR, 0);
        }
    }
}
