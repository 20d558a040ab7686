package cloister.tdx.seamcall;

import static cloister.tdx.core.LpState.R10;
import static cloister.tdx.core.LpState.R8;
import static cloister.tdx.core.LpState.R9;
import static cloister.tdx.core.LpState.RCX;
import static cloister.tdx.core.LpState.RDX;

import cloister.spec.tdx.OperandId;
import cloister.spec.tdx.TdxStatus;
import cloister.spec.x86.Msr;
import cloister.tdx.core.LeafFailure;
import cloister.tdx.core.LockMode;
import cloister.tdx.core.LpState;
import cloister.tdx.core.ModuleHalt;
import cloister.tdx.core.ModuleState.SysState;
import cloister.tdx.core.ModuleState;
import cloister.tdx.core.PlatformCheck;
import cloister.tdx.core.PlatformConfig;
import cloister.tdx.core.Tdcs;

/// TDH.SYS.INIT, leaf 33: samples the platform and checks that the module can run on it. [TDX-ABI "TDH.SYS.INIT"]
final class SysInit implements HostLeaf {
    /// Address bits of IA32_SEAMRR_BASE and IA32_SEAMRR_MASK: 32 MiB aligned.
    private static final long SEAMRR_ADDRESS = (1L << ModuleState.MAX_PA) - (1L << 25);

    @Override public void call(LpState lp, int version) throws LeafFailure {
        var module = lp.module;
        long reserved = lp.reg(RCX);
        lp.clear(RCX, RDX, R8, R9, R10);
        try (var _ = module.lockGlobal(lp, LockMode.EXCLUSIVE)) {
            if (reserved != 0) {
                throw new LeafFailure(TdxStatus.OPERAND_INVALID, OperandId.RCX);
            }
            if (module.sysState != SysState.INIT_PENDING) {
                throw new LeafFailure(TdxStatus.SYS_INIT_NOT_PENDING);
            }
            new PlatformCheck(lp).run();
            // All checks passed.
            var config = module.config;
            config.attributesFixed0 = Tdcs.DEBUG | Tdcs.ICSSD | (config.lass ? Tdcs.LASS : 0) | Tdcs.SEPT_VE_DISABLE
                    | Tdcs.MIGRATABLE | Tdcs.PKS | Tdcs.PERFMON;
            config.configFlagsFixed0 = PlatformConfig.CONFIG_FLAGS;
            findSeamRange(lp);
            module.initializedPackages = 0;
            module.packageConfigBitmap = 0;
            module.initializedLps = 0;
            module.sysState = SysState.INIT_DONE;
        }
    }

    private static void findSeamRange(LpState lp) {
        long mask = lp.cpu.rdmsr(Msr.IA32_SEAMRR_MASK) & SEAMRR_ADDRESS;
        if (mask == 0) {
            throw new ModuleHalt("SEAMRR is not configured");
        }
        lp.module.config.seamrrBase = lp.cpu.rdmsr(Msr.IA32_SEAMRR_BASE) & SEAMRR_ADDRESS;
        lp.module.config.seamrrSize = Long.lowestOneBit(mask);
    }
}
