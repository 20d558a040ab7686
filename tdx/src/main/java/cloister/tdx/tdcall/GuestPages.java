package cloister.tdx.tdcall;

import static cloister.tdx.core.LpState.RCX;
import static cloister.tdx.core.LpState.RDX;

import cloister.spec.tdx.OperandId;
import cloister.spec.tdx.SeptState;
import cloister.spec.tdx.TdcallLeaf;
import cloister.spec.tdx.TdxStatus;
import cloister.tdx.core.Gpa;
import cloister.tdx.core.L2SeptEntry;
import cloister.tdx.core.LeafFailure;
import cloister.tdx.core.LpState;
import cloister.tdx.core.Sept;
import cloister.tdx.core.SeptEntry;
import cloister.tdx.exits.EptExits;

/// TDG.MEM.PAGE.*. [TDX-BASE "Page Acceptance by the Guest TD"]
public final class GuestPages {
    private static final int EEQ_ACCEPT = 1;
    private static final int CHUNKS = 512;
    private static final long CHUNK = 4096;

    private GuestPages() {
    }

    /// @return false when an interrupt stopped the acceptance of a 2 MiB page
    public static boolean accept(LpState lp) throws LeafFailure {
        long info = lp.vcpu.gpr(RCX);
        var tdcs = lp.tdcs;
        int wanted = Gpa.level(info);
        long gpa = Gpa.gpa(info);
        if (!Gpa.isPageInfo(info, 0, 1) || !Gpa.isValid(gpa, tdcs, true)) {
            throw new LeafFailure(TdxStatus.OPERAND_INVALID, OperandId.RCX);
        }
        var sept = new Sept(tdcs.memory, lp.tdr.keyId());
        var slot = sept.walk(tdcs.eptp(), gpa, wanted);
        if (slot.level() != wanted) {
            if (SeptState.of(slot.value()).guestAccessibleLeaf()) {
                throw new LeafFailure(TdxStatus.PAGE_ALREADY_ACCEPTED, slot.level());
            }
            throw EptExits.leafViolation(lp, EEQ_ACCEPT, gpa, wanted, slot.value(), slot.level());
        }
        boolean leaf = SeptEntry.isLeaf(slot.value());
        long busy = Sept.lockEntryByGuest(lp, slot);
        if (busy != 0) {
            throw new LeafFailure(busy | OperandId.RCX);
        }
        long entry = slot.read();
        boolean unlock = true;
        try {
            var state = SeptState.of(entry);
            if (state != SeptState.FREE && !leaf) {
                throw new LeafFailure(TdxStatus.PAGE_SIZE_MISMATCH, wanted);
            }
            if (state.guestAccessibleLeaf()) {
                throw new LeafFailure(TdxStatus.PAGE_ALREADY_ACCEPTED, wanted);
            }
            if (!state.allows(TdcallLeaf.MEM_PAGE_ACCEPT)) {
                slot.write(slot.read() & ~SeptEntry.LOCK);
                unlock = false;
                throw EptExits.leafViolation(lp, EEQ_ACCEPT, gpa, wanted, entry, wanted);
            }
            boolean done = wanted == 0 ? acceptSmall(lp, entry) : acceptLarge(lp, slot, entry);
            if (done) {
                long accepted = SeptEntry.withState(slot.read(), state == SeptState.PENDING ? SeptState.MAPPED
                        : SeptState.EXPORTED_DIRTY) | SeptEntry.RWX;
                unblockL2(lp, sept, accepted, gpa, wanted);
                slot.write(accepted);
            }
            return done;
        } finally {
            if (unlock) {
                slot.write(slot.read() & ~SeptEntry.LOCK);
            }
        }
    }

    private static boolean acceptSmall(LpState lp, long entry) {
        lp.module.fillPage(lp.tdr.withKey(SeptEntry.pa(entry)), 0);
        return true;
    }

    private static boolean acceptLarge(LpState lp, Sept.Slot slot, long entry) {
        long base = SeptEntry.pa(SeptEntry.withAcceptCounter(entry, 0));
        for (int chunk = SeptEntry.acceptCounter(entry); chunk < CHUNKS; chunk++) {
            lp.module.fillPage(lp.tdr.withKey(base + CHUNK * chunk), 0);
            if (chunk + 1 < CHUNKS && lp.cpu.interruptPending()) {
                slot.write(SeptEntry.withAcceptCounter(entry, chunk + 1));
                return false;
            }
        }
        slot.write(SeptEntry.withAcceptCounter(entry, 0));
        return true;
    }

    private static void unblockL2(LpState lp, Sept sept, long entry, long gpa, int level) {
        for (int vm = 1; vm <= lp.tdcs.numL2Vms(); vm++) {
            if (SeptEntry.isAliased(entry, vm)) {
                var l2 = sept.walk(lp.tdcs.septp(lp.tdr, vm), gpa, level);
                l2.write(L2SeptEntry.unblocked(l2.value()));
            }
        }
    }
}
