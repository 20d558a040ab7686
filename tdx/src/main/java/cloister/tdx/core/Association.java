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
            vcpu.u32(Tdvps.ASSOC_LPID, lp.cpu.lp());
            tdcs.u32(Tdcs.NUM_ASSOC_VCPUS, tdcs.u32(Tdcs.NUM_ASSOC_VCPUS) + 1);
            return true;
        }
        return false;
    }
}
