package cloister.tdx.tdcall;

import static cloister.tdx.core.LpState.R8;
import static cloister.tdx.core.LpState.RCX;
import static cloister.tdx.core.LpState.RDX;

import cloister.spec.tdx.OperandId;
import cloister.spec.tdx.TdxStatus;
import cloister.tdx.core.GuestMemory;
import cloister.tdx.core.LeafFailure;
import cloister.tdx.core.LpState;
import cloister.tdx.core.Measurement;
import cloister.tdx.core.SharexHp;
import cloister.tdx.core.Structure;
import cloister.tdx.core.Tdcs;

/// TDG.MR.*: run-time measurement registers and reports. [TDX-BASE "Measurement and Attestation"]
public final class GuestReport {
    private static final int REPORT_BYTES = 1024;
    private static final int REPORT_DATA_BYTES = 64;
    private static final int MAC_STRUCT_BYTES = 256;
    private static final int TDINFO_OFFSET = 512;
    private static final int TDINFO_BYTES = 512;
    private static final int RTMRS = 4;
    private static final int HASH = Measurement.HASH_BYTES;
    private static final byte TDX_REPORT_TYPE = (byte) 0x81;
    private static final int INVALID_REPORT_OPERAND = 0;

    private GuestReport() {
    }

    public static void extend(LpState lp) throws LeafFailure {
        var tdcs = lp.tdcs;
        long gpa = lp.vcpu.gpr(RCX);
        long index = lp.vcpu.gpr(RDX);
        if ((gpa & 63) != 0) {
            throw new LeafFailure(TdxStatus.OPERAND_INVALID, OperandId.RCX);
        }
        long hpa = GuestMemory.operand(lp, gpa, GuestMemory.READ, true, OperandId.RCX);
        byte[] data = Structure.copy(tdcs.memory, hpa, HASH);
        if (Long.compareUnsigned(index, RTMRS) >= 0) {
            throw new LeafFailure(TdxStatus.OPERAND_INVALID, OperandId.RDX);
        }
        var lock = tdcs.lock(Tdcs.RTMR_LOCK);
        long busy = SharexHp.tryExclusive(lp, lock, true);
        if (busy != 0) {
            throw new LeafFailure(busy | OperandId.RTMR);
        }
        int at = Tdcs.RTMR + HASH * (int) index;
        tdcs.bytes(at, Measurement.sha384(tdcs.bytes(at, HASH), data));
        tdcs.flag(Tdcs.LAST_TEEINFO_HASH_VALID, false);
        SharexHp.releaseExclusive(lock);
    }

    /// TDINFO_STRUCT. [TDX-ABI "TDINFO_STRUCT"]
    private static byte[] tdInfo(Tdcs tdcs) {
        var info = new byte[TDINFO_BYTES];
        System.arraycopy(tdcs.bytes(Tdcs.ATTRIBUTES, 16), 0, info, 0, 16); // ATTRIBUTES, XFAM
        System.arraycopy(tdcs.bytes(Tdcs.MRTD, HASH), 0, info, 16, HASH);
        System.arraycopy(tdcs.bytes(Tdcs.MRCONFIGID, HASH), 0, info, 64, HASH);
        System.arraycopy(tdcs.bytes(Tdcs.MROWNER, HASH), 0, info, 112, HASH);
        System.arraycopy(tdcs.bytes(Tdcs.MROWNERCONFIG, HASH), 0, info, 160, HASH);
        for (int i = 0; i < RTMRS; i++) {
            System.arraycopy(tdcs.bytes(Tdcs.RTMR + HASH * i, HASH), 0, info, 208 + HASH * i, HASH);
        }
        System.arraycopy(tdcs.bytes(Tdcs.SERVTD_HASH, HASH), 0, info, 400, HASH);
        return info;
    }

    /// @return false when an interrupt is pending after the hash was computed; the next call uses it
    public static boolean report(LpState lp) throws LeafFailure {
        var tdcs = lp.tdcs;
        long reportGpa = lp.vcpu.gpr(RCX);
        long dataGpa = lp.vcpu.gpr(RDX);
        if ((reportGpa & REPORT_BYTES - 1) != 0) {
            throw new LeafFailure(TdxStatus.OPERAND_INVALID, OperandId.RCX);
        }
        if ((dataGpa & REPORT_DATA_BYTES - 1) != 0) {
            throw new LeafFailure(TdxStatus.OPERAND_INVALID, OperandId.RDX);
        }
        long dataHpa = GuestMemory.operand(lp, dataGpa, GuestMemory.READ, false, OperandId.RDX);
        if (lp.vcpu.gpr(R8) != 0) {
            throw new LeafFailure(TdxStatus.OPERAND_INVALID, OperandId.R8);
        }
        byte[] type = {TDX_REPORT_TYPE, 0, (byte) (tdcs.u16(Tdcs.SERVTD_NUM) > 0 ? 1 : 0), 0};
        boolean cached = tdcs.flag(Tdcs.LAST_TEEINFO_HASH_VALID);
        var lock = tdcs.lock(Tdcs.RTMR_LOCK);
        long busy = SharexHp.tryShared(lp, lock, true);
        if (busy != 0) {
            throw new LeafFailure(busy | OperandId.RTMR);
        }
        byte[] info = tdInfo(tdcs);
        byte[] hash = cached ? tdcs.bytes(Tdcs.LAST_TEEINFO_HASH, HASH) : Measurement.sha384(info);
        if (!cached) {
            tdcs.bytes(Tdcs.LAST_TEEINFO_HASH, hash);
            tdcs.flag(Tdcs.LAST_TEEINFO_HASH_VALID, true);
        }
        SharexHp.releaseShared(lock);
        if (!cached && lp.cpu.interruptPending()) {
            return false;
        }
        byte[] data = Structure.copy(tdcs.memory, dataHpa, REPORT_DATA_BYTES);
        var report = new byte[REPORT_BYTES];
        byte[] seam = lp.cpu.seamReport(type, data, hash);
        System.arraycopy(seam, 0, report, 0, seam.length);
        System.arraycopy(info, 0, report, TDINFO_OFFSET, TDINFO_BYTES);
        long reportHpa = GuestMemory.operand(lp, reportGpa, GuestMemory.WRITE, false, OperandId.RCX);
        tdcs.memory.write(reportHpa, report, 0, REPORT_BYTES);
        return true;
    }

    public static void verify(LpState lp) throws LeafFailure {
        long gpa = lp.vcpu.gpr(RCX);
        if ((gpa & MAC_STRUCT_BYTES - 1) != 0) {
            throw new LeafFailure(TdxStatus.OPERAND_INVALID, OperandId.RCX);
        }
        long hpa = GuestMemory.operand(lp, gpa, GuestMemory.READ, true, OperandId.RCX);
        int result = lp.cpu.seamVerifyReport(Structure.copy(lp.tdcs.memory, hpa, MAC_STRUCT_BYTES));
        if (result != INVALID_REPORT_OPERAND) {
            throw new LeafFailure(result == 6 ? TdxStatus.INVALID_CPUSVN : TdxStatus.INVALID_REPORTMACSTRUCT);
        }
    }
}
