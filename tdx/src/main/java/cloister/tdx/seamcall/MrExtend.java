package cloister.tdx.seamcall;

import static cloister.tdx.core.LpState.RCX;
import static cloister.tdx.core.LpState.RDX;

import cloister.spec.tdx.OperandId;
import cloister.spec.tdx.SeamcallLeaf;
import cloister.spec.tdx.SeptState;
import cloister.spec.tdx.TdxStatus;
import cloister.tdx.core.Gpa;
import cloister.tdx.core.LeafFailure;
import cloister.tdx.core.LockMode;
import cloister.tdx.core.LpState;
import cloister.tdx.core.Measurement;
import cloister.tdx.core.SeptEntry;
import cloister.tdx.core.TdAccess;

/// TDH.MR.EXTEND, leaf 16: measures 256 bytes of a TD page. [TDX-ABI "TDH.MR.EXTEND"]
final class MrExtend implements HostLeaf {
    @Override public void call(LpState lp, int version) throws LeafFailure {
        var module = lp.module;
        long gpa = lp.reg(RCX);
        long tdrPa = lp.reg(RDX);
        lp.reg(RCX, 0);
        lp.reg(RDX, 0);
        try (var tdrPage = module.lockTdr(lp, tdrPa, LockMode.EXCLUSIVE, OperandId.RDX);
                var td = TdAccess.open(lp, module.tdr(tdrPage.pa()), LockMode.NONE, SeamcallLeaf.MR_EXTEND)) {
            if ((gpa & (Measurement.CHUNK - 1)) != 0 || !Gpa.isValid(gpa, td.tdcs(), true)) {
                throw new LeafFailure(TdxStatus.OPERAND_INVALID, OperandId.RCX);
            }
            var slot = td.sept().walk(td.tdcs().eptp(), gpa, 0);
            if (!SeptEntry.isLeaf(slot.value()) || !SeptEntry.isPresent(slot.value())) {
                lp.reportEntry(slot.value(), slot.level());
                throw new LeafFailure(TdxStatus.EPT_ENTRY_NOT_PRESENT, OperandId.RCX);
            }
            if (!SeptState.of(slot.value()).allows(SeamcallLeaf.MR_EXTEND)) {
                throw new LeafFailure(TdxStatus.EPT_ENTRY_NOT_PRESENT);
            }
            // All checks passed; nothing below may fail.
            long hpa = td.tdr().withKey(SeptEntry.leafPa(slot.value(), gpa, slot.level()));
            module.measurement(tdrPage.pa()).extend(gpa, module.memory, hpa);
        }
    }
}
