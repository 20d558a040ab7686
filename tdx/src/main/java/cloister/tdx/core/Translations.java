package cloister.tdx.core;

import cloister.spec.tdx.OperandId;
import cloister.spec.tdx.TdxStatus;

/// What an LP and a VCPU remember of a TD's address translations. [TDX-BASE "TLB Tracking"]
public final class Translations {
    private Translations() {
    }

    /// At TD entry: the VCPU's translations are of the TD's epoch from now on, and count in it.
    ///
    /// @param newAssociation whether the LP cannot have any of an earlier epoch
    /// @throws LeafFailure while TDH.MEM.TRACK has the epoch
    public static void begin(LpState lp, Tdr tdr, Tdcs tdcs, Tdvps vcpu, boolean newAssociation) throws LeafFailure {
        var lock = tdcs.lock(Tdcs.EPOCH_LOCK);
        if (!Sharex.tryShared(lp, lock)) {
            throw new LeafFailure(TdxStatus.OPERAND_BUSY, OperandId.TD_EPOCH);
        }
        long epoch = tdcs.epoch();
        tdcs.addRefcount(epoch, 1);
        Sharex.releaseShared(lock);
        if (epoch != vcpu.u64(Tdvps.VCPU_EPOCH)) {
            if (!newAssociation) {
                flush(lp, tdr, tdcs);
                forget(tdcs, vcpu);
            }
            vcpu.u64(Tdvps.VCPU_EPOCH, epoch);
        }
    }

    /// At TD exit, or when the entry comes to nothing: the VCPU's translations no longer count.
    public static void end(Tdcs tdcs, Tdvps vcpu) {
        tdcs.addRefcount(vcpu.u64(Tdvps.VCPU_EPOCH), -1);
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
