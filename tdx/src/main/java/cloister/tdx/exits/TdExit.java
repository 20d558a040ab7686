package cloister.tdx.exits;

import static cloister.tdx.core.LpState.RCX;
import static cloister.tdx.core.LpState.RDX;

import cloister.spec.tdx.TdxStatus;
import cloister.spec.vmx.ExitReason;
import cloister.tdx.core.LpState;
import cloister.tdx.core.ModuleHalt;
import cloister.tdx.core.Tdcs;
import cloister.tdx.core.Tdr;
import cloister.tdx.core.Tdvps;
import cloister.tdx.core.Transition;
import cloister.tdx.core.Translations;

/// TD exits: back to the VMM with the guest's state saved and the LP scrubbed. [TDX-BASE "TD Exit"]
public final class TdExit {
    static final TdxStatus NON_ACCESSIBLE = TdxStatus.NON_RECOVERABLE_TD_NON_ACCESSIBLE;
    private static final long FATAL = 1L << 61;
    private static final long HOST_RECOVERABILITY_HINT = 1L << 60;
    /// The VM that exited, in RCX over the exit qualification.
    private static final int VM_SHIFT = 32;
    private static final long VM = 3L << VM_SHIFT;
    private static final int RBP = LpState.RBP;
    private static final long EPT_WRITE = 2;

    private TdExit() {
    }

    /// Ends TDH.VP.ENTER with an asynchronous TD exit; does not return.
    ///
    /// @param reason the VM exit reason, all 32 bits
    public static Transition async(LpState lp, TdxStatus status, long reason, long qualification, long extended, long gpa,
            long interruption) {
        long full = (reason & 0xffff_ffffL) | (lp.busLockPreempted ? ExitReason.BUS_LOCK_DETECTED : 0);
        return asyncExactly(lp, status, full, qualification, extended, gpa, interruption);
    }

    /// The same without the sticky bus-lock indication.
    public static Transition asyncExactly(LpState lp, TdxStatus status, long reason, long qualification, long extended, long gpa,
            long interruption) {
        lp.busLockPreempted = false;
        int state = lp.vcpu.state();
        int lastExit = lp.vcpu.u8(Tdvps.LAST_TD_EXIT);
        long code = status.code();
        switch (status) {
            case SUCCESS, CROSS_TD_FAULT, TD_EXIT_BEFORE_L2_ENTRY -> {
                state = Tdvps.READY;
                lastExit = Tdvps.ASYNC_FAULT;
            }
            case CROSS_TD_TRAP, HOST_PRIORITY_BUSY_TIMEOUT -> {
                state = Tdvps.READY;
                lastExit = Tdvps.ASYNC_TRAP;
            }
            case NON_RECOVERABLE_VCPU -> state = Tdvps.DISABLED;
            case NON_RECOVERABLE_TD, NON_RECOVERABLE_TD_WRONG_APIC_MODE, NON_RECOVERABLE_TD_NON_ACCESSIBLE,
                    NON_RECOVERABLE_TD_CORRUPTED_MD -> {
                lp.tdr.flag(Tdr.FATAL, true);
                code |= FATAL;
            }
            default -> throw new ModuleHalt("TD exit with status " + status);
        }
        registers(lp, code | reason, (qualification & ~VM) | ((long) lp.vcpu.currentVm() << VM_SHIFT), extended, gpa, interruption);
        toHost(lp, state, lastExit, 0, status == NON_ACCESSIBLE, (code & HOST_RECOVERABILITY_HINT) != 0);
        throw Transition.TO_HOST;
    }

    /// An asynchronous exit without a VM exit behind it.
    public static Transition withoutReason(LpState lp, TdxStatus status) {
        return asyncExactly(lp, status, 0, 0, 0, 0, 0);
    }

    private static void registers(LpState lp, long rax, long rcx, long rdx, long r8, long r9) {
        clearRegisters(lp, lp.tdcs);
        lp.reg(LpState.RAX, rax);
        lp.reg(RCX, rcx);
        lp.reg(RDX, rdx);
        lp.reg(LpState.R8, r8);
        lp.reg(LpState.R9, r9);
    }

    private static void clearRegisters(LpState lp, Tdcs tdcs) {
        boolean keepRbp = tdcs.configFlag(Tdcs.NO_RBP_MOD);
        for (int i = 0; i < 16; i++) {
            if (i != LpState.RSP && !(keepRbp && i == RBP)) {
                lp.reg(i, 0);
            }
        }
    }

    /// What an EPT-violation TD exit shows that TDH.VP.ENTER makes up: a write to `gpa`.
    public static void fakeEptViolation(LpState lp, Tdcs tdcs, Tdvps vcpu, long gpa) {
        lp.host.scrubExtendedState(vcpu.xfam());
        vcpu.u8(Tdvps.STATE, Tdvps.READY);
        vcpu.u8(Tdvps.LAST_TD_EXIT, Tdvps.ASYNC_FAULT);
        clearRegisters(lp, tdcs);
        lp.reg(LpState.RAX, ExitReason.EPT_VIOLATION);
        lp.reg(RCX, EPT_WRITE);
        lp.reg(LpState.R8, gpa & -4096L);
    }

    /// TDG.VP.VMCALL: the exit that the guest asks for, with the registers that it selects.
    public static Transition vmcall(LpState lp, long mask) {
        boolean keepRbp = lp.tdcs.configFlag(Tdcs.NO_RBP_MOD);
        lp.reg(RCX, mask & 0xffff_ffffL);
        for (int i = 2; i < 16; i++) {
            if (((mask >>> i) & 1) != 0) {
                lp.reg(i, lp.vcpu.gpr(i));
            } else if (i != LpState.RSP && !(keepRbp && i == RBP)) {
                lp.reg(i, 0);
            }
        }
        long reason = ExitReason.TDCALL | (lp.busLockPreempted ? ExitReason.BUS_LOCK_DETECTED : 0);
        lp.busLockPreempted = false;
        lp.reg(LpState.RAX, reason);
        toHost(lp, Tdvps.READY, Tdvps.TDVMCALL, (int) (mask >>> 16) & 0xffff, false, true);
        throw Transition.TO_HOST;
    }

    private static void toHost(LpState lp, int state, int lastExit, int xmmMask, boolean dead, boolean trap) {
        var vcpu = lp.vcpu;
        if (!dead) {
            var context = new GuestContext(lp);
            context.save();
            vcpu.u8(Tdvps.STATE, state);
            vcpu.u8(Tdvps.LAST_TD_EXIT, lastExit);
            context.saveExtendedState();
            if (trap) {
                Inject.advanceRip(lp);
            }
            Translations.end(lp.tdcs, vcpu);
        }
        lp.host.restore(lp.tdcs, (lp.attributes & Tdcs.PERFMON) != 0, lp.xfam);
        for (int i = 0; i < 16; i++) {
            if (((xmmMask >>> i) & 1) != 0) {
                lp.cpu.xmm(i, lp.xbuff.xmmLow(i), lp.xbuff.xmmHigh(i));
            }
        }
        lp.tdrPage.close();
        lp.tdvprPage.close();
        lp.leaveTd();
    }
}
