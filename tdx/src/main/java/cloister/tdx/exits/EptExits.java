package cloister.tdx.exits;

import cloister.spec.tdx.SeptState;
import cloister.spec.tdx.TdxStatus;
import cloister.spec.vmx.ExitReason;
import cloister.spec.vmx.VmcsField;
import cloister.tdx.core.Gpa;
import cloister.tdx.core.LpState;
import cloister.tdx.core.ModuleHalt;
import cloister.tdx.core.Sept;
import cloister.tdx.core.SeptEntry;
import cloister.tdx.core.Tdcs;
import cloister.tdx.core.Transition;

/// EPT violations and misconfigurations of a TD. [TDX-BASE "EPT Violations"]
public final class EptExits {
    private static final long READ_ACCESS = 1;
    private static final long WRITE_ACCESS = 2;
    private static final long FETCH = 4;
    private static final long LINEAR_VALID = 1 << 7;
    private static final long SHADOW_STACK = 1 << 13;
    private static final long NMI_UNBLOCKED = 1 << 12;
    private static final long HIDDEN_FROM_VMM = 0x3f << 7;
    private static final long BLOCKING_NMI = 1 << 3;
    private static final int EEQ_PENDING = 6;
    private static final int PFEC_P = 1;
    private static final int PFEC_WR = 2;
    private static final int PFEC_US = 4;
    private static final int PFEC_RSVD = 8;
    private static final int PFEC_ID = 16;
    private static final int PFEC_SS = 64;

    private EptExits() {
    }

    public static void blockNmi(LpState lp) {
        lp.vmcs.write(VmcsField.GUEST_INTERRUPTIBILITY_STATE,
                lp.vmcs.read(VmcsField.GUEST_INTERRUPTIBILITY_STATE) | BLOCKING_NMI);
    }

    public static int cpl(LpState lp) {
        return (int) lp.vmcs.read(VmcsField.GUEST_SS_ACCESS_RIGHTS) >>> 5 & 3;
    }

    public static void violation(LpState lp, long reason, long qualification) {
        if ((qualification & NMI_UNBLOCKED) != 0) {
            blockNmi(lp);
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
                    Inject.ve(lp, reason, qualification, gpa, lp.vmcs.read(VmcsField.GUEST_LINEAR_ADDRESS));
                    return;
                }
                extended = EEQ_PENDING;
            }
            Stepping.log(lp, gpa);
        }
        throw violationToHost(lp, reason, qualification, extended, gpa);
    }

    private static void reservedBitFault(LpState lp, long qualification) {
        int code = PFEC_P | PFEC_RSVD;
        code |= (qualification & WRITE_ACCESS) != 0 ? PFEC_WR : 0;
        code |= cpl(lp) == 3 ? PFEC_US : 0;
        code |= (qualification & FETCH) != 0 ? PFEC_ID : 0;
        code |= (qualification & SHADOW_STACK) != 0 ? PFEC_SS : 0;
        Inject.pf(lp, lp.vmcs.read(VmcsField.GUEST_LINEAR_ADDRESS), code);
    }

    public static Transition violationToHost(LpState lp, long reason, long qualification, long extended, long gpa) {
        return TdExit.async(lp, TdxStatus.SUCCESS, reason, qualification & ~HIDDEN_FROM_VMM, extended, gpa & -4096L, 0);
    }

    /// The violation that a memory leaf function meets instead of the page that it needs.
    public static Transition leafViolation(LpState lp, int type, long gpa, int wantedLevel, long entry, int level) {
        long qualification = WRITE_ACCESS | (entry & 7) << 3;
        long info = wantedLevel | level << 3 | (long) SeptState.of(entry).architectural() << 6
                | (SeptEntry.isLeaf(entry) ? 1 << 14 : 0);
        return violationToHost(lp, ExitReason.EPT_VIOLATION, qualification, type | info << 32, gpa);
    }

    public static void misconfiguration(LpState lp, long reason) {
        long gpa = lp.vmcs.read(VmcsField.GUEST_PHYSICAL_ADDRESS);
        if (Gpa.isShared(gpa, lp.tdcs.gpaw())) {
            throw TdExit.async(lp, TdxStatus.SUCCESS, reason, 0, 0, gpa & -4096L, 0);
        }
        throw new ModuleHalt(String.format("Secure EPT misconfiguration at GPA 0x%x", gpa));
    }

    /// The qualification of an access by the module for the guest.
    public static long qualification(long wanted, long allowed) {
        return wanted & ~allowed & (READ_ACCESS | WRITE_ACCESS | FETCH) | (allowed & 7) << 3;
    }
}
