package cloister.tdx.exits;

import cloister.spec.tdx.SeptState;
import cloister.spec.vmx.VmcsField;
import cloister.tdx.core.Gpa;
import cloister.tdx.core.LpState;
import cloister.tdx.core.Sept;
import cloister.tdx.core.Tdcs;

/// EPT violations of a TD: #PF for an address that its virtual address width lacks, #VE or a TD exit for a pending page, a TD exit
/// for the rest. [TDX-BASE "EPT Violation Mutated into #VE", "Reserved Bits of Guest Physical Addresses"]
final class EptViolation {
    private static final long WRITE_ACCESS = 2;
    private static final long FETCH = 4;
    private static final long LINEAR_VALID = 1 << 7;
    private static final long NMI_UNBLOCKED = 1 << 12;
    private static final long SHADOW_STACK = 1 << 13;
    private static final int EEQ_PENDING = 6;
    private static final int PFEC_P = 1;
    private static final int PFEC_WR = 2;
    private static final int PFEC_US = 4;
    private static final int PFEC_RSVD = 8;
    private static final int PFEC_ID = 16;
    private static final int PFEC_SS = 64;

    private EptViolation() {
    }

    static void handle(VmExit exit) {
        var lp = exit.lp;
        long qualification = exit.qualification;
        if ((qualification & NMI_UNBLOCKED) != 0) {
            NmiWindow.block(lp);
        }
        var tdcs = lp.tdcs;
        long gpa = lp.vmcs.read(VmcsField.GUEST_PHYSICAL_ADDRESS);
        if (Gpa.aboveMaxpa(gpa, tdcs.gpaw(), tdcs.virtMaxpa()) && (qualification & LINEAR_VALID) != 0) {
            reservedBitFault(lp, qualification);
            return;
        }
        long extended = 0;
        if (!Gpa.isShared(gpa, tdcs.gpaw())) {
            var slot = new Sept(tdcs.memory, lp.tdr.keyId()).walk(tdcs.eptp(), gpa, 0);
            if (SeptState.of(slot.value()).guestAcceptable()) {
                if (!tdcs.tdCtl(Tdcs.PENDING_VE_DISABLE)) {
                    Inject.ve(lp, exit.reason, qualification, gpa, lp.vmcs.read(VmcsField.GUEST_LINEAR_ADDRESS));
                    return;
                }
                extended = EEQ_PENDING;
            }
            ZeroStepFilter.log(lp, gpa);
        }
        throw EptExits.violationToHost(lp, exit.reason, qualification, extended, gpa);
    }

    private static void reservedBitFault(LpState lp, long qualification) {
        int code = PFEC_P | PFEC_RSVD;
        code |= (qualification & WRITE_ACCESS) != 0 ? PFEC_WR : 0;
        code |= GuestMode.cpl(lp) == 3 ? PFEC_US : 0;
        code |= (qualification & FETCH) != 0 ? PFEC_ID : 0;
        code |= (qualification & SHADOW_STACK) != 0 ? PFEC_SS : 0;
        Inject.pf(lp, lp.vmcs.read(VmcsField.GUEST_LINEAR_ADDRESS), code);
    }
}
