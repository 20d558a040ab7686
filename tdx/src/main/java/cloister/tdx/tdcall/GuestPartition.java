package cloister.tdx.tdcall;

import static cloister.tdx.core.LpState.R10;
import static cloister.tdx.core.LpState.R8;
import static cloister.tdx.core.LpState.RAX;
import static cloister.tdx.core.LpState.RCX;
import static cloister.tdx.core.LpState.RDX;

import cloister.spec.tdx.FieldId;
import cloister.spec.tdx.OperandId;
import cloister.spec.tdx.TdxStatus;
import cloister.tdx.core.Gpa;
import cloister.tdx.core.LeafFailure;
import cloister.tdx.core.LockMode;
import cloister.tdx.core.LpState;
import cloister.tdx.core.ModuleHalt;
import cloister.tdx.core.ModuleState;
import cloister.tdx.core.SeptEntry;
import cloister.tdx.core.TdAccess;
import cloister.tdx.core.Tdr;
import cloister.tdx.core.Tdvps;
import cloister.tdx.exits.TdExit;

/// TDCALL leaves of L1 VMMs and service TDs, as far as they fail in a TD that is neither. [TDX-TDP], [TDX-ABI
/// "TDG.SERVTD.RD"]
public final class GuestPartition {
    private static final int GPR_LIST_ALIGNMENT = 256;
    private static final int VM_SHIFT = 52;
    private static final long VM_AND_LIST = 3L << VM_SHIFT | 1;
    private static final int UUID_WORDS = 4;

    private GuestPartition() {
    }

    private static int vm(LpState lp) throws LeafFailure {
        long flags = lp.vcpu.gpr(RCX);
        int vm = (int) (flags >>> VM_SHIFT) & 3;
        if (vm == 0 || vm > lp.tdcs.numL2Vms() || (flags & ~VM_AND_LIST) != 0) {
            throw new LeafFailure(TdxStatus.OPERAND_INVALID, OperandId.RCX);
        }
        return vm;
    }

    public static void enter(LpState lp) throws LeafFailure {
        long state = lp.vcpu.gpr(RDX);
        if ((state & GPR_LIST_ALIGNMENT - 1) != 0 || !Gpa.isValid(state, lp.tdcs, true)) {
            throw new LeafFailure(TdxStatus.OPERAND_INVALID, OperandId.RDX);
        }
        int vm = vm(lp);
        if (lp.vcpu.u64(Tdvps.L2_VAPIC_GPA + 8 * vm) == ModuleState.NULL_PA) {
            throw new LeafFailure(TdxStatus.OPERAND_INVALID, OperandId.L2_VAPIC_GPA);
        }
        throw new ModuleHalt("L2 VM " + vm + " cannot run: TD partitioning is not modelled");
    }

    public static void invept(LpState lp) throws LeafFailure {
        long vms = lp.vcpu.gpr(RCX);
        if ((vms & 1) != 0 || vms >>> lp.tdcs.numL2Vms() + 1 != 0) {
            throw new LeafFailure(TdxStatus.OPERAND_INVALID, OperandId.RCX);
        }
        for (int vm = 1; vm <= lp.tdcs.numL2Vms(); vm++) {
            if ((vms >>> vm & 1) != 0) {
                lp.cpu.invept(lp.tdcs.septp(lp.tdr, vm));
            }
        }
    }

    public static void invvpid(LpState lp) throws LeafFailure {
        throw new ModuleHalt("L2 VM " + vm(lp) + " has no translations: TD partitioning is not modelled");
    }

    /// TDG.SERVTD.RD and .WR: no TD can be bound to another, so that the target is either not one or does not know the caller.
    /// Failures on the target's side are for the VMM to see.
    public static void serviceTd(LpState lp, boolean read) throws LeafFailure {
        var vcpu = lp.vcpu;
        long handle = vcpu.gpr(RCX) - lp.tdr.u64(Tdr.TD_UUID);
        long target = handle & SeptEntry.HPA;
        if (read) {
            vcpu.gpr(RDX, FieldId.NONE);
        }
        vcpu.gpr(R8, 0);
        if ((handle & 0xfff) != 0) {
            throw new LeafFailure(TdxStatus.OPERAND_INVALID, OperandId.RCX);
        }
        try (var page = lp.module.lockTdr(lp, target, LockMode.SHARED, OperandId.TDR)) {
            var tdr = lp.module.tdr(page.pa());
            TdAccess.require(tdr);
            for (int i = 0; i < UUID_WORDS; i++) {
                if (tdr.u64(Tdr.TD_UUID + 8 * i) != vcpu.gpr(R10 + i)) {
                    throw new LeafFailure(TdxStatus.TARGET_UUID_MISMATCH);
                }
            }
            throw new LeafFailure(TdxStatus.SERVTD_NOT_BOUND);
        } catch (LeafFailure failure) {
            if (TdxStatus.OPERAND_BUSY.matches(failure.status())
                    || TdxStatus.OPERAND_BUSY_HOST_PRIORITY.matches(failure.status())
                    || TdxStatus.TARGET_UUID_MISMATCH.matches(failure.status())) {
                throw failure;
            }
            vcpu.gpr(RAX, failure.status());
            throw TdExit.asyncExactly(lp, TdxStatus.CROSS_TD_TRAP, 0, 0, failure.status(), target, 0);
        }
    }
}
