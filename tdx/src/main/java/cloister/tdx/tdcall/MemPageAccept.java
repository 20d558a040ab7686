package cloister.tdx.tdcall;

import static cloister.tdx.core.LpState.RCX;

import cloister.spec.tdx.OperandId;
import cloister.spec.tdx.SeptState;
import cloister.spec.tdx.TdcallLeaf;
import cloister.spec.tdx.TdxStatus;
import cloister.tdx.core.Gpa;
import cloister.tdx.core.L2SeptEntry;
import cloister.tdx.core.LeafFailure;
import cloister.tdx.core.LpState;
import cloister.tdx.core.Pamt;
import cloister.tdx.core.SeptEntry;
import cloister.tdx.core.SeptTarget;
import cloister.tdx.core.Tdcs;

/// TDG.MEM.PAGE.ACCEPT, leaf 6: a pending page is zeroed and becomes the guest's. [TDX-ABI "TDG.MEM.PAGE.ACCEPT"]
final class MemPageAccept implements GuestLeaf {
    /// Extended exit qualification type.
    private static final int ACCEPT = 1;
    private static final int CHUNKS = 512;

    @Override public Outcome call(LpState lp, int version) throws LeafFailure {
        long info = lp.vcpu.gpr(RCX);
        long gpa = Gpa.gpa(info);
        if (!Gpa.isPageInfo(info, SeptTarget.PT, SeptTarget.PD) || !Gpa.isValid(gpa, lp.tdcs, true)) {
            throw new LeafFailure(TdxStatus.OPERAND_INVALID, OperandId.RCX);
        }
        try (var target = new GuestSeptTarget(lp, gpa, Gpa.level(info))) {
            boolean leaf = SeptEntry.isLeaf(target.entry);
            if (target.isAtWantedLevel()) {
                target.lock();
                if (!leaf && !SeptEntry.isFree(target.entry)) {
                    throw new LeafFailure(TdxStatus.PAGE_SIZE_MISMATCH, target.level);
                }
            }
            var state = SeptState.of(target.entry);
            if (state.guestAccessibleLeaf()) {
                throw new LeafFailure(TdxStatus.PAGE_ALREADY_ACCEPTED, target.level);
            }
            if (!target.isAtWantedLevel() || !state.allows(TdcallLeaf.MEM_PAGE_ACCEPT)) {
                throw target.violation(ACCEPT);
            }
            // All checks passed; only an interrupt can leave the page pending.
            if (target.level == SeptTarget.PD && !zeroLargePage(lp, target)) {
                return Outcome.INTERRUPTED;
            }
            if (target.level == SeptTarget.PT) {
                zero(lp, SeptEntry.pa(target.entry));
            }
            complete(target, state);
            return Outcome.COMPLETED;
        }
    }

    private static void zero(LpState lp, long pa) {
        lp.module.fillPage(lp.tdr.withKey(pa), 0);
    }

    /// Zeroes a 2 MiB page from the 4 KiB chunk on at which it was interrupted.
    ///
    /// @return false when an interrupt stopped it; the entry says where
    private static boolean zeroLargePage(LpState lp, GuestSeptTarget target) {
        long pa = SeptEntry.pa(SeptEntry.withAcceptCounter(target.entry, 0));
        for (int chunk = SeptEntry.acceptCounter(target.entry); chunk < CHUNKS; chunk++) {
            zero(lp, pa + chunk * Pamt.bytes(Pamt.SIZE_4K));
            if (chunk + 1 < CHUNKS && lp.cpu.interruptPending()) {
                target.replace(SeptEntry.withAcceptCounter(target.entry, chunk + 1));
                return false;
            }
        }
        target.entry = SeptEntry.withAcceptCounter(target.entry, 0);
        return true;
    }

    private static void complete(GuestSeptTarget target, SeptState state) {
        for (int vm = 1; vm <= Tdcs.MAX_L2_VMS; vm++) {
            if (target.isAliased(vm)) {
                var l2 = target.l2(vm);
                l2.write(L2SeptEntry.unblocked(l2.value()));
            }
        }
        var accepted = state == SeptState.PENDING ? SeptState.MAPPED : SeptState.EXPORTED_DIRTY;
        target.replace(SeptEntry.withState(target.entry, accepted) | SeptEntry.RWX);
    }
}
