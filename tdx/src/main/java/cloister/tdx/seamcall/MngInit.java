package cloister.tdx.seamcall;

import static cloister.tdx.core.LpState.RCX;
import static cloister.tdx.core.LpState.RDX;

import cloister.spec.tdx.OperandId;
import cloister.spec.tdx.SeamcallLeaf;
import cloister.spec.tdx.TdxStatus;
import cloister.spec.x86.Msr;
import cloister.tdx.core.LeafFailure;
import cloister.tdx.core.LockMode;
import cloister.tdx.core.LpState;
import cloister.tdx.core.PlatformCheck;
import cloister.tdx.core.TdAccess;
import cloister.tdx.core.TdInit;
import cloister.tdx.core.TdParams;

/// TDH.MNG.INIT, leaf 21: configures the TD by TD_PARAMS. [TDX-ABI "TDH.MNG.INIT"]
final class MngInit implements HostLeaf {
    @Override public void call(LpState lp, int version) throws LeafFailure {
        var module = lp.module;
        long tdrPa = lp.reg(RCX);
        lp.reg(RCX, 0);
        if ((lp.cpu.rdmsr(Msr.IA32_MISC_ENABLE) & PlatformCheck.LIMIT_CPUID_MAXVAL) != 0) {
            throw new LeafFailure(TdxStatus.LIMIT_CPUID_MAXVAL_SET);
        }
        try (var page = module.lockTdr(lp, tdrPa, LockMode.EXCLUSIVE, OperandId.RCX);
                var td = TdAccess.open(lp, module.tdr(page.pa()), LockMode.NONE, SeamcallLeaf.MNG_INIT)) {
            module.requireShared(lp.reg(RDX), TdParams.BYTES, OperandId.RDX);
            new TdInit(lp, td.tdr(), td.tdcs(), new TdParams(module.memory, lp.reg(RDX))).run();
        }
    }
}
