package cloister.tdx.tdcall;

import static cloister.tdx.core.LpState.RCX;
import static cloister.tdx.core.LpState.RDX;

import cloister.spec.tdx.OperandId;
import cloister.spec.tdx.TdxStatus;
import cloister.tdx.core.LeafFailure;
import cloister.tdx.core.LpState;
import cloister.tdx.core.Measurement;
import cloister.tdx.core.SharexHp;
import cloister.tdx.core.Tdcs;
import cloister.tdx.exits.GuestMemory;

/// TDG.MR.RTMR.EXTEND, leaf 2: a run-time measurement register becomes the hash of itself and 48 bytes.
/// [TDX-ABI "TDG.MR.RTMR.EXTEND"]
final class MrRtmrExtend implements GuestLeaf {
    private static final int ALIGNMENT = 64;
    private static final int HASH = Measurement.HASH_BYTES;

    @Override public Outcome call(LpState lp, int version) throws LeafFailure {
        var tdcs = lp.tdcs;
        long gpa = lp.vcpu.gpr(RCX);
        long index = lp.vcpu.gpr(RDX);
        if ((gpa & (ALIGNMENT - 1)) != 0) {
            throw new LeafFailure(TdxStatus.OPERAND_INVALID, OperandId.RCX);
        }
        long hpa = GuestMemory.operand(lp, gpa, GuestMemory.READ, true, OperandId.RCX);
        byte[] data = GuestMemory.bytes(lp, hpa, HASH);
        if (Long.compareUnsigned(index, Tdcs.RTMRS) >= 0) {
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
        return Outcome.COMPLETED;
    }
}
