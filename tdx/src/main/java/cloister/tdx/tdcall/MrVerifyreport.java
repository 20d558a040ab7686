package cloister.tdx.tdcall;

import static cloister.tdx.core.LpState.RCX;

import cloister.spec.tdx.OperandId;
import cloister.spec.tdx.TdxStatus;
import cloister.tdx.core.LeafFailure;
import cloister.tdx.core.LpState;
import cloister.tdx.core.ModuleHalt;
import cloister.tdx.exits.GuestMemory;

/// TDG.MR.VERIFYREPORT, leaf 22: whether this platform made a REPORTMACSTRUCT. [TDX-ABI "TDG.MR.VERIFYREPORT"]
///
/// On every modelled platform SEAMOPS has SEAMVERIFYREPORT, so that the function is never missing.
final class MrVerifyreport implements GuestLeaf {
    private static final int MAC_STRUCT_BYTES = 256;
    // SEAMOPS.SEAMVERIFYREPORT results
    private static final int GENUINE = 0;
    private static final int INVALID_REPORTMACSTRUCT = 5;
    private static final int INVALID_CPUSVN = 4;

    @Override public Outcome call(LpState lp, int version) throws LeafFailure {
        long gpa = lp.vcpu.gpr(RCX);
        if ((gpa & (MAC_STRUCT_BYTES - 1)) != 0) {
            throw new LeafFailure(TdxStatus.OPERAND_INVALID, OperandId.RCX);
        }
        long hpa = GuestMemory.operand(lp, gpa, GuestMemory.READ, true, OperandId.RCX);
        int result = lp.cpu.seamVerifyReport(GuestMemory.bytes(lp, hpa, MAC_STRUCT_BYTES));
        switch (result) {
            case GENUINE -> {
                return Outcome.COMPLETED;
            }
            case INVALID_CPUSVN -> throw new LeafFailure(TdxStatus.INVALID_CPUSVN);
            case INVALID_REPORTMACSTRUCT -> throw new LeafFailure(TdxStatus.INVALID_REPORTMACSTRUCT);
            default -> throw new ModuleHalt("SEAMVERIFYREPORT ended with " + result);
        }
    }
}
