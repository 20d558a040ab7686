package cloister.tdx.core;

/// What an LP and a VCPU remember of a TD's address translations. [TDX-BASE "TLB Tracking"]
public final class Translations {
    private Translations() {
    }

    /// INVEPT of all Secure EPTs of the TD.
    public static void flush(LpState lp, Tdr tdr, Tdcs tdcs) {
        for (int vm = 0; vm <= tdcs.numL2Vms(); vm++) {
            lp.cpu.invept(tdcs.septp(tdr, vm));
        }
    }

    /// Invalidates the addresses that the module translated for L2 VMs.
    public static void forget(Tdcs tdcs, Tdvps vcpu) {
        for (int vm = 0; vm <= tdcs.numL2Vms(); vm++) {
            vcpu.u64(Tdvps.L2_ENTER_GUEST_STATE_HPA + 8 * vm, ModuleState.NULL_PA);
            vcpu.u64(Tdvps.L2_VAPIC_HPA + 8 * vm, ModuleState.NULL_PA);
        }
    }
}
