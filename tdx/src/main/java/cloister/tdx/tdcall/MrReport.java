package cloister.tdx.tdcall;

import static cloister.tdx.core.LpState.R8;
import static cloister.tdx.core.LpState.RCX;
import static cloister.tdx.core.LpState.RDX;

import cloister.spec.tdx.OperandId;
import cloister.spec.tdx.TdxStatus;
import cloister.tdx.core.LeafFailure;
import cloister.tdx.core.LpState;
import cloister.tdx.core.TdInfo;
import cloister.tdx.core.Tdcs;
import cloister.tdx.exits.GuestMemory;

/// TDG.MR.REPORT, leaf 4: a TDREPORT_STRUCT of the TD for 64 bytes of the guest's choice. [TDX-ABI "TDG.MR.REPORT"]
final class MrReport implements GuestLeaf {
    private static final int REPORT_BYTES = 1024;
    private static final int REPORT_DATA_BYTES = 64;
    private static final int TDINFO_OFFSET = 512;
    // REPORTTYPE
    private static final byte TDX_REPORT = (byte) 0x81;
    private static final byte SUBTYPE = 0;
    private static final byte WITHOUT_SERVICE_TDS = 0;
    private static final byte WITH_SERVICE_TDS = 1;

    @Override public Outcome call(LpState lp, int version) throws LeafFailure {
        var tdcs = lp.tdcs;
        long reportGpa = lp.vcpu.gpr(RCX);
        long dataGpa = lp.vcpu.gpr(RDX);
        if ((reportGpa & (REPORT_BYTES - 1)) != 0) {
            throw new LeafFailure(TdxStatus.OPERAND_INVALID, OperandId.RCX);
        }
        if ((dataGpa & (REPORT_DATA_BYTES - 1)) != 0) {
            throw new LeafFailure(TdxStatus.OPERAND_INVALID, OperandId.RDX);
        }
        long dataHpa = GuestMemory.operand(lp, dataGpa, GuestMemory.READ, false, OperandId.RDX);
        if (lp.vcpu.gpr(R8) != SUBTYPE) {
            throw new LeafFailure(TdxStatus.OPERAND_INVALID, OperandId.R8);
        }
        byte[] type = {TDX_REPORT, SUBTYPE, tdcs.u16(Tdcs.SERVTD_NUM) > 0 ? WITH_SERVICE_TDS : WITHOUT_SERVICE_TDS, 0};
        boolean quick = TdInfo.isHashKnown(tdcs);
        var info = TdInfo.of(lp, tdcs, TdInfo.WHOLE, true);
        if (!quick && lp.cpu.interruptPending()) {
            return Outcome.INTERRUPTED; // The next call finds the hash.
        }
        var report = new byte[REPORT_BYTES];
        byte[] seam = lp.cpu.seamReport(type, GuestMemory.bytes(lp, dataHpa, REPORT_DATA_BYTES), info.hash());
        System.arraycopy(seam, 0, report, 0, seam.length);
        System.arraycopy(info.bytes(), 0, report, TDINFO_OFFSET, TdInfo.BYTES);
        long reportHpa = GuestMemory.operand(lp, reportGpa, GuestMemory.WRITE, false, OperandId.RCX);
        tdcs.memory.write(reportHpa, report, 0, REPORT_BYTES);
        return Outcome.COMPLETED;
    }
}
