package cloister.tdx.core;

import cloister.spec.tdx.TdxStatus;

/// The association of a VCPU with one LP. [TDX-BASE "VCPU Association"]
public final class Association {
    private Association() {
    }

    /// Associates the VCPU with this LP.
    ///
    /// @return whether it was not associated before
    public static boolean associate(LpState lp, Tdcs tdcs, Tdvps vcpu, boolean allowDisabled) throws LeafFailure {
        int state = vcpu.state();
        if (state != Tdvps.READY && !(state == Tdvps.DISABLED && allowDisabled)) {
            throw new LeafFailure(TdxStatus.VCPU_STATE_INCORRECT);
        }
        int current = vcpu.u32(Tdvps.ASSOC_LPID);
        if (current != Tdvps.NO_LP && current != lp.cpu.lp()) {
            throw new LeafFailure(TdxStatus.VCPU_ASSOCIATED);
        }
        if (current == Tdvps.NO_LP) {
            take(lp, tdcs, vcpu);
            return true;
        }
        return false;
    }

    private static void take(LpState lp, Tdcs tdcs, Tdvps vcpu) {
        vcpu.u32(Tdvps.ASSOC_LPID, lp.cpu.lp()); // first, as CMPXCHG does it: several LPs may hold the TDVPR shared
        for (int vm = 0; vm <= Tdcs.MAX_L2_VMS; vm++) {
            vcpu.flag(Tdvps.LP_DEPENDENT_HPA_UPDATED + vm, false); // the VMCSs have another LP's host state, or none
        }
        tdcs.u32(Tdcs.NUM_ASSOC_VCPUS, tdcs.u32(Tdcs.NUM_ASSOC_VCPUS) + 1);
    }

    /// Associates a VCPU that has just been initialised with this LP.
    public static void begin(LpState lp, Tdcs tdcs, Tdvps vcpu) {
        vcpu.u64(Tdvps.LAST_SEAMDB_INDEX, ModuleVersion.SEAMDB_INDEX);
        take(lp, tdcs, vcpu);
    }

    /// Takes the VCPU off this LP, which forgets what ran last on it.
    public static void dissolve(LpState lp, Tdcs tdcs, Tdvps vcpu) {
        vcpu.u32(Tdvps.ASSOC_LPID, Tdvps.NO_LP);
        tdcs.u32(Tdcs.NUM_ASSOC_VCPUS, tdcs.u32(Tdcs.NUM_ASSOC_VCPUS) - 1);
        lp.lastTdvprPa = ModuleState.NULL_PA;
    }
}
