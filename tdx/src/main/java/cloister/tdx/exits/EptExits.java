package cloister.tdx.exits;

import cloister.spec.tdx.SeptState;
import cloister.spec.tdx.TdxStatus;
import cloister.spec.vmx.ExitReason;
import cloister.tdx.core.LpState;
import cloister.tdx.core.SeptEntry;
import cloister.tdx.core.Transition;

/// TD exits that tell the VMM of an EPT violation, by the guest or by a leaf function on its behalf. [TDX-ABI "TDH.VP.ENTER"]
public final class EptExits {
    private static final long READ_ACCESS = 1;
    private static final long WRITE_ACCESS = 2;
    private static final long FETCH = 4;
    /// Qualification bits 12:7 describe the guest's linear address.
    private static final long HIDDEN_FROM_VMM = 0x3f << 7;

    private EptExits() {
    }

    public static Transition violationToHost(LpState lp, long reason, long qualification, long extended, long gpa) {
        return TdExit.async(lp, TdxStatus.SUCCESS, reason, qualification & ~HIDDEN_FROM_VMM, extended, gpa & -4096L, 0);
    }

    /// The violation that a memory leaf function meets instead of the page that it needs.
    public static Transition leafViolation(LpState lp, int type, long gpa, int wantedLevel, long entry, int level) {
        long qualification = WRITE_ACCESS | ((entry & 7) << 3);
        long info = wantedLevel | (level << 3) | ((long) SeptState.of(entry).architectural() << 6)
                | (SeptEntry.isLeaf(entry) ? 1 << 14 : 0);
        return violationToHost(lp, ExitReason.EPT_VIOLATION, qualification, type | (info << 32), gpa);
    }

    /// The qualification of an access by the module for the guest.
    public static long qualification(long wanted, long allowed) {
        return (wanted & ~allowed & (READ_ACCESS | WRITE_ACCESS | FETCH)) | ((allowed & 7) << 3);
    }
}
