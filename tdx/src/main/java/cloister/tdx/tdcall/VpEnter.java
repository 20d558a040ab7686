package cloister.tdx.tdcall;

import static cloister.tdx.core.LpState.RDX;

import cloister.spec.tdx.OperandId;
import cloister.spec.tdx.SeptState;
import cloister.spec.tdx.TdxStatus;
import cloister.spec.vmx.ExitReason;
import cloister.spec.vmx.VmcsField;
import cloister.tdx.core.Gpa;
import cloister.tdx.core.LeafFailure;
import cloister.tdx.core.LpState;
import cloister.tdx.core.ModuleState;
import cloister.tdx.core.NotModelled;
import cloister.tdx.core.Sept;
import cloister.tdx.core.SeptEntry;
import cloister.tdx.core.Tdvps;
import cloister.tdx.exits.EptExits;
import cloister.tdx.exits.TdExit;

/// TDG.VP.ENTER, leaf 25, as far as it goes before an L2 VM would run. [TDX-ABI "TDG.VP.ENTER"]
final class VpEnter implements GuestLeaf {
    private static final int STATE_ALIGNMENT = 256;
    private static final long INVEPT_FLAGS = 3;
    private static final int PRIORITY_CLASS = 0xf0;
    private static final long TD_EXIT_ON_L1_TO_L2 = 1;

    @Override public Outcome call(LpState lp, int version) throws LeafFailure {
        long stateGpa = lp.vcpu.gpr(RDX);
        if ((stateGpa & (STATE_ALIGNMENT - 1)) != 0 || !Gpa.isValid(stateGpa, lp.tdcs, true)) {
            throw new LeafFailure(TdxStatus.OPERAND_INVALID, OperandId.RDX);
        }
        int vm = L2Vm.operand(lp, INVEPT_FLAGS);
        var vcpu = lp.vcpu;
        if (vcpu.u64(Tdvps.L2_VAPIC_GPA + 8 * vm) == ModuleState.NULL_PA) {
            throw new LeafFailure(TdxStatus.OPERAND_INVALID, OperandId.L2_VAPIC_GPA);
        }
        int requested = (int) lp.vmcs.read(VmcsField.GUEST_INTERRUPT_STATUS) & PRIORITY_CLASS;
        if (requested > (vcpu.u8(Tdvps.VAPIC_PPR) & PRIORITY_CLASS)) {
            throw new LeafFailure(TdxStatus.PENDING_INTERRUPT);
        }
        if ((vcpu.u64(Tdvps.L2_DEBUG_CTLS + 8 * vm) & TD_EXIT_ON_L1_TO_L2) != 0) {
            throw TdExit.withoutReason(lp, TdxStatus.TD_EXIT_BEFORE_L2_ENTRY);
        }
        if (vcpu.u64(Tdvps.L2_ENTER_GUEST_STATE_GPA + 8 * vm) != stateGpa) {
            vcpu.u64(Tdvps.L2_ENTER_GUEST_STATE_GPA + 8 * vm, stateGpa);
            vcpu.u64(Tdvps.L2_ENTER_GUEST_STATE_HPA + 8 * vm, ModuleState.NULL_PA);
        }
        translate(lp, Tdvps.L2_ENTER_GUEST_STATE_GPA + 8 * vm, Tdvps.L2_ENTER_GUEST_STATE_HPA + 8 * vm);
        if (translate(lp, Tdvps.L2_VAPIC_GPA + 8 * vm, Tdvps.L2_VAPIC_HPA + 8 * vm)) {
            lp.module.vcpu(vcpu.tdvprPa).vmcs()[vm].write(VmcsField.VIRTUAL_APIC_ADDRESS,
                    vcpu.u64(Tdvps.L2_VAPIC_HPA + 8 * vm));
        }
        throw new NotModelled("TD partitioning, in which L2 VM " + vm + " would run,");
    }

    /// Finds the page of a GPA that the L1 VMM named, unless it is known; a page that the guest cannot access makes a TD exit.
    ///
    /// @return whether the HPA is new
    private static boolean translate(LpState lp, int gpaField, int hpaField) {
        if (lp.vcpu.u64(hpaField) != ModuleState.NULL_PA) {
            return false;
        }
        long gpa = lp.vcpu.u64(gpaField);
        if (!Gpa.isValid(gpa, lp.tdcs, true)) {
            throw EptExits.violationToHost(lp, ExitReason.EPT_VIOLATION, 0, 0, gpa);
        }
        var slot = new Sept(lp.tdcs.memory, lp.tdr.keyId()).walk(lp.tdcs.eptp(), gpa, 0);
        long entry = slot.value();
        if (!SeptEntry.isLeaf(entry) || !SeptEntry.isPresent(entry) || !SeptState.of(entry).guestAccessibleLeaf()) {
            throw EptExits.violationToHost(lp, ExitReason.EPT_VIOLATION, 0, 0, gpa);
        }
        lp.vcpu.u64(hpaField, lp.tdr.withKey(SeptEntry.leafPa(entry, gpa, slot.level())));
        return true;
    }
}
