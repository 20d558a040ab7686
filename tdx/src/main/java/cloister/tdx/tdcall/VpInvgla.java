package cloister.tdx.tdcall;

import static cloister.tdx.core.LpState.RDX;

import cloister.memory.PhysicalMemory;
import cloister.spec.tdx.OperandId;
import cloister.spec.tdx.TdxStatus;
import cloister.tdx.core.LeafFailure;
import cloister.tdx.core.LpState;
import cloister.tdx.core.SeptEntry;
import cloister.tdx.exits.GuestMemory;

/// TDG.VP.INVGLA, leaf 27: INVVPID for guest-linear addresses of an L2 VM. [TDX-ABI "TDG.VP.INVGLA"]
///
/// L2 VMs do not run on this model, so no processor holds a translation of theirs: what remains is the check that INVVPID makes.
final class VpInvgla implements GuestLeaf {
    private static final long LIST = 1;
    private static final int ENTRIES = (int) (PhysicalMemory.FRAME_SIZE / Long.BYTES);
    /// GLA_LIST_INFO: first entry 8:0, list GPA 51:12, number of entries 61:52.
    private static final long FIRST_ENTRY = 0x1ff;
    private static final int COUNT_SHIFT = 52;
    private static final long COUNT = 0x3ffL << COUNT_SHIFT;
    private static final long INFO_RESERVED = (7 << 9) | (3L << 62);
    /// GLA_LIST_ENTRY: number of further pages 11:0, page 63:12.
    private static final int FURTHER_PAGES = 0xfff;

    @Override public Outcome call(LpState lp, int version) throws LeafFailure {
        L2Vm.operand(lp, LIST);
        long operand = lp.vcpu.gpr(RDX);
        if ((lp.vcpu.gpr(LpState.RCX) & LIST) == 0) {
            invalidate(lp, operand);
            return Outcome.COMPLETED;
        }
        return list(lp, operand);
    }

    private static Outcome list(LpState lp, long info) throws LeafFailure {
        int at = (int) (info & FIRST_ENTRY);
        int left = (int) ((info & COUNT) >>> COUNT_SHIFT);
        if ((info & INFO_RESERVED) != 0 || at + left > ENTRIES) {
            throw new LeafFailure(TdxStatus.OPERAND_INVALID, OperandId.RDX);
        }
        long list = info & SeptEntry.HPA;
        long hpa = GuestMemory.operand(lp, list, GuestMemory.READ, true, OperandId.RDX);
        boolean interrupted = false;
        while (left > 0 && !interrupted) {
            invalidate(lp, lp.tdcs.memory.read(hpa + (long) Long.BYTES * at, Long.BYTES));
            at++;
            left--;
            interrupted = lp.cpu.interruptPending();
        }
        lp.vcpu.gpr(RDX, (at & FIRST_ENTRY) | list | ((long) left << COUNT_SHIFT));
        return interrupted ? Outcome.INTERRUPTED : Outcome.COMPLETED;
    }

    /// [SDM Vol. 3 INVVPID]: an address must be canonical for the widest paging that the processor has.
    private static void invalidate(LpState lp, long entry) throws LeafFailure {
        int width = lp.module.config.la57 ? 57 : 48;
        long gla = entry & ~FURTHER_PAGES;
        for (int i = 0; i <= (entry & FURTHER_PAGES); i++) {
            long sign = gla >> (width - 1);
            if (sign != 0 && sign != -1) {
                throw new LeafFailure(TdxStatus.GLA_NOT_CANONICAL);
            }
            gla += PhysicalMemory.FRAME_SIZE;
        }
    }
}
