package cloister.tdx.exits;

import cloister.spec.tdx.OperandId;
import cloister.spec.tdx.TdxStatus;
import cloister.spec.vmx.ExitReason;
import cloister.spec.vmx.VmcsField;
import cloister.tdx.core.Gpa;
import cloister.tdx.core.LeafFailure;
import cloister.tdx.core.LpState;
import cloister.tdx.core.SeptEntry;
import cloister.tdx.core.Sharex;
import cloister.tdx.core.Tdcs;
import cloister.tdx.core.Tdr;
import cloister.tdx.core.Tdvps;
import cloister.tdx.port.Vmcs;

/// Defence against a VMM that lets a TD fault at one instruction again and again: it is not entered while the private pages
/// that it faulted on are still missing, and may be told by #VE. [TDX-BASE "Zero-Step Attack Mitigation"]
public final class ZeroStepFilter {
    private static final int THRESHOLD = 6;
    private static final int LIST_SIZE = 32;
    private static final long NOTIFY_EPT_FAULTS = 1;
    private static final long BLOCKING_NMI = 1 << 3;
    private static final long NMI_UNBLOCKED = 1 << 12;
    private static final long VALID = 1L << 31;
    /// What [#atEntry] says when the TD may be entered.
    public static final long NOTHING_MISSING = -1;

    private ZeroStepFilter() {
    }

    /// Remembers an EPT violation on a private page that goes to the VMM.
    static void log(LpState lp, long gpa) {
        var vcpu = lp.vcpu;
        if (lp.vmcs.read(VmcsField.GUEST_RIP) != lp.stepping.ripOnEntry) {
            reset(vcpu);
        }
        int suspicion = vcpu.u8(Tdvps.POSSIBLY_EPF_STEPPING);
        if (suspicion < THRESHOLD) {
            vcpu.u8(Tdvps.POSSIBLY_EPF_STEPPING, suspicion + 1);
            return;
        }
        int count = vcpu.u8(Tdvps.LAST_EPF_GPA_LIST_IDX);
        if (count >= LIST_SIZE) {
            return;
        }
        for (int i = 0; i < count; i++) {
            if (vcpu.u64(Tdvps.LAST_EPF_GPA_LIST + 8 * i) == gpa) {
                return;
            }
        }
        vcpu.u64(Tdvps.LAST_EPF_GPA_LIST + 8 * count, gpa);
        vcpu.u8(Tdvps.LAST_EPF_GPA_LIST_IDX, count + 1);
    }

    /// The TD made progress.
    static void reset(Tdvps vcpu) {
        vcpu.u8(Tdvps.LAST_EPF_GPA_LIST_IDX, 0);
        vcpu.u8(Tdvps.POSSIBLY_EPF_STEPPING, 0);
    }

    /// Before an entry of `vcpu`, whose VMCS is `lp.vmcs`.
    ///
    /// @return a missing page's GPA, or [#NOTHING_MISSING]
    /// @throws LeafFailure when the Secure EPT is locked
    public static long atEntry(LpState lp, Tdr tdr, Tdcs tdcs, Tdvps vcpu) throws LeafFailure {
        lp.stepping.ripOnEntry = lp.vmcs.read(VmcsField.GUEST_RIP);
        int count = vcpu.u8(Tdvps.LAST_EPF_GPA_LIST_IDX);
        if (count == 0) {
            return NOTHING_MISSING;
        }
        var lock = tdcs.lock(Tdcs.SECURE_EPT_LOCK);
        if (!Sharex.tryExclusive(lp, lock)) {
            throw new LeafFailure(TdxStatus.OPERAND_BUSY, OperandId.SEPT_TREE);
        }
        try {
            for (int i = 0; i < count; i++) {
                long gpa = vcpu.u64(Tdvps.LAST_EPF_GPA_LIST + 8 * i);
                if (wouldFault(tdr, tdcs, gpa)) {
                    return gpa;
                }
            }
            notifyTd(lp, tdcs, vcpu);
            return NOTHING_MISSING;
        } finally {
            Sharex.releaseExclusive(lock);
        }
    }

    /// Whether an access to a private GPA would exit with an EPT violation that is not a #VE.
    private static boolean wouldFault(Tdr tdr, Tdcs tdcs, long gpa) {
        var result = GuestMemory.walkPrivate(tdr, tdcs, gpa, SeptEntry.RWX);
        return result.kind() != GuestMemory.Kind.SUCCESS && result.kind() != GuestMemory.Kind.CONVERTIBLE;
    }

    /// #VE for the last EPT violation, if the TD asked for that and can take it.
    private static void notifyTd(LpState lp, Tdcs tdcs, Tdvps vcpu) {
        var vmcs = lp.vmcs;
        long reason = vmcs.read(VmcsField.EXIT_REASON);
        long qualification = vmcs.read(VmcsField.EXIT_QUALIFICATION);
        long gpa = vmcs.read(VmcsField.GUEST_PHYSICAL_ADDRESS);
        boolean privateFault = ExitReason.basic((int) reason) == ExitReason.EPT_VIOLATION && !Gpa.isShared(gpa, tdcs.gpaw());
        if ((tdcs.u64(Tdcs.NOTIFY_ENABLES) & NOTIFY_EPT_FAULTS) != 0 && privateFault && canTakeVe(vmcs, vcpu, qualification)) {
            Inject.ve(lp, vcpu, reason, qualification, gpa, 0);
        }
    }

    private static boolean canTakeVe(Vmcs vmcs, Tdvps vcpu, long qualification) {
        return (vmcs.read(VmcsField.GUEST_INTERRUPTIBILITY_STATE) & BLOCKING_NMI) == 0 && (qualification & NMI_UNBLOCKED) == 0
                && (vmcs.read(VmcsField.IDT_VECTORING_INFO) & VALID) == 0 && !vcpu.veInfoValid();
    }
}
