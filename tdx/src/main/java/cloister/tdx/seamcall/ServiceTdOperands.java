package cloister.tdx.seamcall;

import static cloister.tdx.core.LpState.R8;
import static cloister.tdx.core.LpState.R9;

import cloister.spec.tdx.OperandId;
import cloister.spec.tdx.TdxStatus;
import cloister.tdx.core.LeafFailure;
import cloister.tdx.core.LpState;
import cloister.tdx.core.ServiceTdBinding;

/// The operands that TDH.SERVTD.BIND and TDH.SERVTD.PREBIND share: slot, type and SERVTD_ATTR. [TDX-ABI "TDH.SERVTD.BIND"]
final class ServiceTdOperands {
    /// INSTANCE_BINDING and the fields of TDINFO_STRUCT to ignore.
    private static final long ATTRIBUTES = 0x7ff_0000_0001L;

    private ServiceTdOperands() {
    }

    /// @param attributes R10 as the caller set it
    static void check(LpState lp, long attributes) throws LeafFailure {
        require(Long.compareUnsigned(lp.reg(R8), ServiceTdBinding.SLOTS) < 0, OperandId.R8);
        require(lp.reg(R9) == ServiceTdBinding.MIGRATION_TD, OperandId.R9);
        require((attributes & ~ATTRIBUTES) == 0, OperandId.R10);
    }

    private static void require(boolean valid, int operand) throws LeafFailure {
        if (!valid) {
            throw new LeafFailure(TdxStatus.OPERAND_INVALID, operand);
        }
    }
}
