package cloister.tdx.seamcall;

import static cloister.tdx.core.LpState.R10;
import static cloister.tdx.core.LpState.R8;
import static cloister.tdx.core.LpState.R9;

import cloister.memory.PhysicalMemory;
import cloister.spec.tdx.OperandId;
import cloister.spec.tdx.TdxStatus;
import cloister.tdx.core.LeafFailure;
import cloister.tdx.core.LpState;
import cloister.tdx.core.SeptEntry;

/// The operands that functions on a TD's state share: the bundle's metadata MBMD in R8, the page list in R9, stream and command in
/// R10. [TDX-MIG]
final class MigrationOperands {
    static final int MBMD_BYTES = 48;
    private static final int MBMD_ALIGNMENT = 128;
    private static final int MBMD_SIZE_SHIFT = 52;
    private static final long RESUME = 1L << 63;
    private static final long LIST_RESERVED = 0xfff | (7L << 52);
    private static final int LAST_ENTRY_SHIFT = 55;

    private MigrationOperands() {
    }

    /// Checks R8, the address and size of an MBMD.
    ///
    /// @return the address
    static long mbmd(LpState lp) throws LeafFailure {
        long operand = lp.reg(R8);
        if (operand >>> MBMD_SIZE_SHIFT < MBMD_BYTES) {
            throw new LeafFailure(TdxStatus.OPERAND_INVALID, OperandId.R8);
        }
        long hpa = operand & ((1L << MBMD_SIZE_SHIFT) - 1);
        lp.module.requireShared(hpa, MBMD_ALIGNMENT, OperandId.R8);
        return hpa;
    }

    /// Checks R10 of a function that uses the first forward stream.
    static void firstStream(LpState lp) throws LeafFailure {
        if ((lp.reg(R10) & ~RESUME) != 0) {
            throw new LeafFailure(TdxStatus.OPERAND_INVALID, OperandId.R10);
        }
    }

    /// Whether the call goes on where an interrupt stopped another.
    static boolean isResumption(LpState lp) {
        return (lp.reg(R10) & RESUME) != 0;
    }

    /// Checks R9, a list of pages.
    ///
    /// @param least number of pages that the function needs
    /// @return the list's address
    static long pageList(LpState lp, int least) throws LeafFailure {
        long operand = lp.reg(R9);
        if (operand >>> LAST_ENTRY_SHIFT < least - 1 || (operand & LIST_RESERVED) != 0) {
            throw new LeafFailure(TdxStatus.OPERAND_INVALID, OperandId.R9);
        }
        long list = operand & SeptEntry.HPA;
        lp.module.requireShared(list, PhysicalMemory.FRAME_SIZE, OperandId.R9);
        return list;
    }
}
