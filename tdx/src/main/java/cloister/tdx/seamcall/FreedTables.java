package cloister.tdx.seamcall;

import static cloister.tdx.core.LpState.R10;
import static cloister.tdx.core.LpState.R11;
import static cloister.tdx.core.LpState.R9;
import static cloister.tdx.core.LpState.RCX;
import static cloister.tdx.core.LpState.RDX;

import cloister.spec.tdx.OperandId;
import cloister.spec.tdx.TdxStatus;
import cloister.tdx.core.LeafFailure;
import cloister.tdx.core.LockedPages;
import cloister.tdx.core.LpState;
import cloister.tdx.core.ModuleState;
import cloister.tdx.core.PageType;
import cloister.tdx.core.SeptTarget;

/// What TDH.MEM.SEPT.REMOVE and TDH.MEM.PAGE.PROMOTE share: both give back a table of the L1 tree, in RCX, and those of L2 trees for
/// the same range, which version 1 leaves in R9 to R11.
final class FreedTables {
    private static final int FIRST_VERSION_WITH_L2 = 1;

    private FreedTables() {
    }

    /// Clears the output registers; a function that fails after this leaves them cleared.
    ///
    /// @return whether the tables of L2 trees are reported
    static boolean outputs(LpState lp, int version) throws LeafFailure {
        boolean reportL2 = version >= FIRST_VERSION_WITH_L2;
        lp.reg(RCX, 0);
        lp.reg(RDX, 0);
        if (reportL2) {
            lp.reg(R9, ModuleState.NULL_PA);
            lp.reg(R10, ModuleState.NULL_PA);
            lp.reg(R11, ModuleState.NULL_PA);
        }
        if (version > FIRST_VERSION_WITH_L2) {
            throw new LeafFailure(TdxStatus.OPERAND_INVALID, OperandId.RAX);
        }
        return reportL2;
    }

    /// The table of VM `vm` is a free page.
    static void release(SeptTarget target, LockedPages tables, int vm) {
        target.td.tdr().addChildren(-1);
        tables.entry(vm).type(PageType.NDA);
    }
}
