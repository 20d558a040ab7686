package cloister.tdx.seamcall;

import static cloister.tdx.core.LpState.RCX;

import cloister.spec.tdx.OperandId;
import cloister.spec.tdx.TdxStatus;
import cloister.tdx.core.Association;
import cloister.tdx.core.LeafFailure;
import cloister.tdx.core.LockMode;
import cloister.tdx.core.LpState;
import cloister.tdx.core.Tdcs;
import cloister.tdx.core.Tdr;
import cloister.tdx.core.Tdvps;
import cloister.tdx.core.Translations;

/// TDH.VP.FLUSH, leaf 18: takes the VCPU off its LP. [TDX-ABI "TDH.VP.FLUSH"]
final class VpFlush implements HostLeaf {
    @Override public void call(LpState lp, int version) throws LeafFailure {
        var module = lp.module;
        try (var tdvpr = module.lockTdvpr(lp, lp.reg(RCX), LockMode.EXCLUSIVE, OperandId.RCX);
                var tdrPage = module.lockOwner(lp, tdvpr, LockMode.SHARED)) {
            var tdr = module.tdr(tdrPage.pa());
            if (tdr.lifecycleState() != Tdr.KEYS_CONFIGURED) {
                throw new LeafFailure(TdxStatus.TD_KEYS_NOT_CONFIGURED);
            }
            var tdcs = new Tdcs(module.memory, tdr);
            var vcpu = Tdvps.whole(module.memory, tdvpr.pa(), tdr.keyId(), tdcs.numL2Vms());
            if (vcpu == null) {
                throw new LeafFailure(TdxStatus.TDCX_NUM_INCORRECT);
            }
            if (vcpu.u32(Tdvps.ASSOC_LPID) != lp.cpu.lp()) {
                throw new LeafFailure(TdxStatus.VCPU_NOT_ASSOCIATED);
            }
            // All checks passed; nothing below may fail.
            Translations.flush(lp, tdr, tdcs);
            Translations.forget(tdcs, vcpu);
            for (int vm = 0; vm <= tdcs.numL2Vms(); vm++) {
                lp.cpu.clear(module.vcpu(tdvpr.pa()).vmcs()[vm]);
                vcpu.flag(Tdvps.VM_LAUNCHED + vm, false);
            }
            Association.dissolve(lp, tdcs, vcpu);
        }
    }
}
