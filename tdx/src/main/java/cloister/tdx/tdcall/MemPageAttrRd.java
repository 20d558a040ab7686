package cloister.tdx.tdcall;

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
import cloister.tdx.core.Pamt;
import cloister.tdx.core.SeptTarget;
import cloister.tdx.core.Tdcs;
import cloister.tdx.exits.EptExits;

/// TDG.MEM.PAGE.ATTR.RD, leaf 23: the size of the page at a GPA and how the L2 VMs may use it. [TDX-ABI "TDG.MEM.PAGE.ATTR.RD"]
final class MemPageAttrRd implements GuestLeaf {
    @Override public Outcome call(LpState lp, int version) throws LeafFailure {
        try {
            read(lp, lp.vcpu.gpr(RCX));
        } catch (LeafFailure e) {
            lp.vcpu.gpr(RCX, 0);
            lp.vcpu.gpr(RDX, 0);
            throw e;
        }
        return Outcome.COMPLETED;
    }

    private static void read(LpState lp, long gpa) throws LeafFailure {
        if (!Gpa.isValid(gpa, lp.tdcs, true)) {
            throw new LeafFailure(TdxStatus.OPERAND_INVALID, OperandId.RCX);
        }
        try (var target = new GuestSeptTarget(lp, gpa, SeptTarget.PT)) {
            target.lock();
            var state = SeptState.of(target.entry);
            if (!state.allows(TdcallLeaf.MEM_PAGE_ATTR_RD)) {
                target.close();
                throw EptExits.violationToHost(lp, ExitReason.EPT_VIOLATION, 0, 0, gpa);
            }
            long attributes = 0;
            for (int vm = 1; vm <= Tdcs.MAX_L2_VMS; vm++) {
                if (target.isAliased(vm)) {
                    int ofVm = L2SeptEntry.attributes(target.l2(vm).value(), state.anyBlockedw());
                    attributes = PageAttributes.with(attributes, vm, ofVm);
                }
            }
            long pageGpa = gpa & -Pamt.bytes(target.level);
            lp.vcpu.gpr(RCX, pageGpa | target.level | (state.anyPending() ? PageAttributes.PENDING : 0));
            lp.vcpu.gpr(RDX, attributes);
        }
    }
}
