package cloister.tdx.exits;

import cloister.tdx.core.LpState;

/// XSETBV by a TD. [TDX-BASE "XSETBV"]
final class XsetbvExit {
    private XsetbvExit() {
    }

    static void handle(LpState lp) {
        long value = (lp.vcpu.gpr(LpState.RDX) << 32) | (lp.vcpu.gpr(LpState.RAX) & 0xffff_ffffL);
        if ((int) lp.vcpu.gpr(LpState.RCX) != 0 || !isLegal(value, lp.module.config.xcr0Supported & lp.xfam)) {
            Inject.gp(lp);
            return;
        }
        lp.cpu.xcr0(value);
    }

    /// [SDM Vol. 1 "Enabling the XSAVE Feature Set and XSAVE-Enabled Features"]
    private static boolean isLegal(long value, long allowed) {
        boolean sse = ((value >>> 1) & 1) != 0;
        boolean avx = ((value >>> 2) & 1) != 0;
        long avx512 = (value >>> 5) & 7;
        long amx = (value >>> 17) & 3;
        return (value & ~allowed) == 0 && (value & 1) != 0 && (!avx || sse) && (avx512 == 0 || (avx512 == 7 && avx))
                && (amx == 0 || amx == 3);
    }
}
