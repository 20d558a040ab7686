package cloister.tdx.tdcall;

import static cloister.tdx.core.LpState.R8;
import static cloister.tdx.core.LpState.RCX;
import static cloister.tdx.core.LpState.RDX;

import cloister.spec.tdx.OperandId;
import cloister.spec.tdx.SeptState;
import cloister.spec.tdx.TdcallLeaf;
import cloister.spec.tdx.TdxStatus;
import cloister.spec.vmx.ExitReason;
import cloister.tdx.core.Gpa;
import cloister.tdx.core.L2SeptEntry;
import cloister.tdx.core.LeafFailure;
import cloister.tdx.core.LpState;
import cloister.tdx.core.Sept;
import cloister.tdx.core.SeptEntry;
import cloister.tdx.core.SeptTarget;
import cloister.tdx.core.Tdcs;
import cloister.tdx.exits.EptExits;

/// TDG.MEM.PAGE.ATTR.WR, leaf 24: how the L2 VMs may use a page. Aliases of the page in their trees come and go with it.
/// [TDX-ABI "TDG.MEM.PAGE.ATTR.WR"]
final class MemPageAttrWr implements GuestLeaf {
    /// Extended exit qualification types.
    private static final int GPA_DETAILS = 2;
    private static final int ATTR_WR = 5;
    private static final int VMS = Tdcs.MAX_L2_VMS + 1;
    /// In R8: flush what the VM's translations cache.
    private static final int INVEPT = 1 << 15;
    private static final long WRITE_ACCESS = 1 << 1;
    /// In TDCS.VM_CTLS.
    private static final long VIOLATION_ON_L2_WALK = 1;

    @Override public Outcome call(LpState lp, int version) throws LeafFailure {
        long info = lp.vcpu.gpr(RCX);
        try {
            requireOperands(lp, info, lp.vcpu.gpr(RDX), lp.vcpu.gpr(R8));
            try (var target = new GuestSeptTarget(lp, Gpa.gpa(info), Gpa.level(info))) {
                lockPage(target);
                long attributes = new Change(lp, target, lp.vcpu.gpr(RDX), lp.vcpu.gpr(R8)).run();
                lp.vcpu.gpr(RCX, info | (SeptState.of(target.entry).anyPending() ? PageAttributes.PENDING : 0));
                lp.vcpu.gpr(RDX, attributes);
            }
        } catch (LeafFailure e) {
            lp.vcpu.gpr(RCX, 0);
            if (!TdxStatus.PAGE_ATTR_INVALID.matches(e.status())) { // RDX shows the attributes then
                lp.vcpu.gpr(RDX, 0);
            }
            throw e;
        }
        return Outcome.COMPLETED;
    }

    private static void requireOperands(LpState lp, long info, long attributes, long flags) throws LeafFailure {
        for (int vm = 0; vm < VMS; vm++) {
            boolean exists = vm > 0 && vm <= lp.tdcs.numL2Vms();
            int wanted = PageAttributes.of(attributes, vm);
            if (wanted != 0 && (!exists || (wanted & PageAttributes.VALID) == 0)) {
                throw new LeafFailure(TdxStatus.OPERAND_INVALID, OperandId.RDX);
            }
            if (!exists && PageAttributes.of(flags, vm) != 0) {
                throw new LeafFailure(TdxStatus.OPERAND_INVALID, OperandId.R8);
            }
        }
        if (!Gpa.isPageInfo(info, SeptTarget.PT, SeptTarget.PDPT) || !Gpa.isValid(Gpa.gpa(info), lp.tdcs, true)) {
            throw new LeafFailure(TdxStatus.OPERAND_INVALID, OperandId.RCX);
        }
    }

    private static void lockPage(GuestSeptTarget target) throws LeafFailure {
        if (!target.isAtWantedLevel()) {
            throw target.violation(ATTR_WR);
        }
        target.lock();
        if (!SeptEntry.isLeaf(target.entry) && !SeptEntry.isFree(target.entry)) {
            throw new LeafFailure(TdxStatus.PAGE_SIZE_MISMATCH, target.level);
        }
        if (!SeptState.of(target.entry).allows(TdcallLeaf.MEM_PAGE_ATTR_WR)) {
            throw target.violation(ATTR_WR);
        }
    }

    /// One call: first the old and new attributes of every VM are combined and the L2 entries found, then they change.
    private static final class Change {
        private final LpState lp;
        private final GuestSeptTarget target;
        private final SeptState state;
        private final long flags;
        private final Sept.Slot[] l2 = new Sept.Slot[VMS];
        /// RDX, in the end the attributes as they are then.
        private long attributes;

        Change(LpState lp, GuestSeptTarget target, long attributes, long flags) {
            this.lp = lp;
            this.target = target;
            this.state = SeptState.of(target.entry);
            this.attributes = attributes;
            this.flags = flags;
        }

        long run() throws LeafFailure {
            boolean legal = true;
            for (int vm = 1; vm <= lp.tdcs.numL2Vms(); vm++) {
                int mask = PageAttributes.of(flags, vm) | PageAttributes.VALID;
                int wanted = PageAttributes.of(attributes, vm) & mask;
                if ((wanted & PageAttributes.VALID) != 0) {
                    legal &= target.isAliased(vm) ? combine(vm, wanted, mask) : prepareAlias(vm, wanted);
                }
            }
            if (!legal) {
                lp.vcpu.gpr(RDX, attributes);
                throw new LeafFailure(TdxStatus.PAGE_ATTR_INVALID);
            }
            // All checks passed; nothing below may fail.
            for (int vm = 1; vm <= lp.tdcs.numL2Vms(); vm++) {
                commit(vm);
            }
            return attributes;
        }

        /// @return whether the attributes that the VM gets are legal; if not, those that it has stay
        private boolean combine(int vm, int wanted, int mask) {
            l2[vm] = target.l2(vm);
            int current = L2SeptEntry.attributes(l2[vm].value(), state.anyBlockedw());
            int combined = (current & ~mask) | wanted;
            boolean legal = !PageAttributes.isPresent(combined) || PageAttributes.isLegal(combined);
            attributes = PageAttributes.with(attributes, vm, legal ? combined : current);
            return legal;
        }

        /// Finds the L2 entry for a new alias; the host must have given the tables.
        ///
        /// @return whether the attributes that the VM would get are legal
        private boolean prepareAlias(int vm, int wanted) throws LeafFailure {
            if (!PageAttributes.isPresent(wanted)) {
                return true;
            }
            if (!PageAttributes.isLegal(wanted)) {
                attributes = PageAttributes.with(attributes, vm, 0);
                return false;
            }
            attributes = PageAttributes.with(attributes, vm, wanted);
            var found = target.walkL2(vm);
            if (found.level() != target.level) {
                throw noTable(vm, found);
            }
            l2[vm] = found;
            return true;
        }

        /// The host leaves tables out at its will: the guest learns it, or, if it asked for that, the host.
        private LeafFailure noTable(int vm, Sept.Slot found) {
            if ((lp.tdcs.vmCtls(vm) & VIOLATION_ON_L2_WALK) == 0) {
                return new LeafFailure(TdxStatus.L2_SEPT_WALK_FAILED, (vm << 16) | found.level());
            }
            target.close();
            long value = found.value();
            long qualification = WRITE_ACCESS | ((value & SeptEntry.RWX) << 3) | ((value & SeptEntry.XU) >>> 4);
            long details = ((long) found.level() << 3) | ((long) vm << 20);
            throw EptExits.violationToHost(lp, ExitReason.EPT_VIOLATION, qualification, GPA_DETAILS | (details << 32), target.gpa);
        }

        private void commit(int vm) {
            int wanted = PageAttributes.of(attributes, vm);
            if (target.isAliased(vm) && (wanted & PageAttributes.VALID) != 0) {
                if (PageAttributes.isPresent(wanted)) {
                    l2[vm].write(L2SeptEntry.withAttributes(l2[vm].value(), wanted));
                } else {
                    l2[vm].write(SeptEntry.L2_INIT);
                    target.slot.write(SeptEntry.withoutAlias(target.slot.read(), vm));
                    attributes = PageAttributes.with(attributes, vm, PageAttributes.VALID);
                }
            } else if (l2[vm] != null) {
                l2[vm].write(L2SeptEntry.leaf(l2[vm].value(), SeptEntry.pa(target.entry), wanted, state.anyPending()));
                target.slot.write(SeptEntry.withAlias(target.slot.read(), vm));
            }
            if ((PageAttributes.of(flags, vm) & INVEPT) != 0) {
                lp.cpu.invept(lp.tdcs.septp(lp.tdr, vm));
            }
        }
    }
}
