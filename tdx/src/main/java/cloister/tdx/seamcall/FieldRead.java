package cloister.tdx.seamcall;

import static cloister.tdx.core.LpState.R8;
import static cloister.tdx.core.LpState.RDX;

import cloister.spec.tdx.FieldId;
import cloister.spec.tdx.OperandId;
import cloister.spec.tdx.TdxStatus;
import cloister.tdx.core.LeafFailure;
import cloister.tdx.core.LpState;
import cloister.tdx.core.Metadata;

/// The operands of TDH.MNG.RD and TDH.VP.RD: version 0 reads the field in RDX into R8, version 1 also leaves the next field in RDX.
final class FieldRead {
    private static final int LAST_VERSION = 1;

    private final LpState lp;
    private final boolean steps;
    private final long id;

    /// Clears the outputs, which they stay when anything fails from here on.
    FieldRead(LpState lp, int version) throws LeafFailure {
        this.lp = lp;
        steps = version > 0;
        id = lp.reg(RDX);
        if (steps) {
            lp.reg(RDX, FieldId.NONE);
        }
        lp.reg(R8, 0);
        if (version > LAST_VERSION) {
            throw new LeafFailure(TdxStatus.OPERAND_INVALID, OperandId.RAX);
        }
    }

    void from(Metadata fields) throws LeafFailure {
        if (steps) {
            fields.readAndStep(id, lp::reg);
        } else {
            fields.read(id, lp::reg);
        }
    }
}
