package cloister.tdx.exits;

import cloister.spec.tdx.TdxStatus;
import cloister.spec.vmx.ExitReason;
import cloister.spec.vmx.VmcsField;
import cloister.spec.x86.Msr;
import cloister.tdx.core.LpState;
import cloister.tdx.core.ModuleHalt;
import cloister.tdx.core.TdMsr;
import cloister.tdx.core.Tdcs;
import cloister.tdx.core.Tdvps;
import cloister.tdx.core.Transition;
import cloister.tdx.tdcall.GuestCalls;
import java.util.Locale;

/// What the module does with a VM exit of a TD: what precedes and follows every one of them, and who handles which. [TDX-BASE
/// "TD VM Exits"]
public final class VmExit {
    private static final int C_STATE_SMI = 42;
    /// Exit reason bits that a TD does not cause: all above the basic reason but 26, 27 and 31.
    private static final long UNEXPECTED = 0x73ff_0000L;

    final LpState lp;
    /// All 32 bits of the exit reason.
    final long reason;
    final int basic;
    final long qualification;
    final long interruption;
    /// A leaf function stopped half-way for an interrupt: its instruction is executed again.
    private boolean interrupted;

    private VmExit(LpState lp) {
        this.lp = lp;
        this.reason = lp.vmcs.read(VmcsField.EXIT_REASON);
        this.basic = ExitReason.basic((int) reason);
        this.qualification = lp.vmcs.read(VmcsField.EXIT_QUALIFICATION);
        this.interruption = lp.vmcs.read(VmcsField.EXIT_INTERRUPTION_INFO);
    }

    /// @return true to resume the guest, false when TDH.VP.ENTER ended
    public static boolean handle(LpState lp) {
        lp.vcpu.u64(Tdvps.LAST_EXIT_TSC, lp.cpu.tsc());
        saveRegisters(lp);
        lp.vcpu.u64(Tdvps.SPEC_CTRL, lp.cpu.rdmsr(Msr.IA32_SPEC_CTRL));
        try {
            new VmExit(lp).run();
        } catch (Transition transition) {
            if (transition == Transition.TO_HOST) {
                return false;
            }
        }
        loadRegisters(lp);
        return true;
    }

    private static void saveRegisters(LpState lp) {
        long[] registers = lp.cpu.registers();
        for (int i = 0; i < 16; i++) {
            if (i != LpState.RSP) {
                lp.vcpu.gpr(i, registers[i]);
            }
        }
    }

    /// The VCPU's general registers become the LP's.
    public static void loadRegisters(LpState lp) {
        long[] registers = lp.cpu.registers();
        for (int i = 0; i < 16; i++) {
            if (i != LpState.RSP) {
                registers[i] = lp.vcpu.gpr(i);
            }
        }
    }

    /// The TD exit that this VM exit becomes; no further information.
    Transition toHost(TdxStatus status) {
        return toHost(status, 0);
    }

    Transition toHost(TdxStatus status, long interruptionInfo) {
        return TdExit.async(lp, status, reason, qualification, 0, 0, interruptionInfo);
    }

    /// A TD exit of a debug TD, whose debugger may have asked for it; the end of any other TD.
    private Transition unexpected() {
        return toHost(lp.tdcs.debug() ? TdxStatus.SUCCESS : TdxStatus.NON_RECOVERABLE_TD);
    }

    /// A TD exit of a debug TD; in any other TD the processor does not cause such an exit.
    Transition debuggersOnly() {
        if (lp.tdcs.debug()) {
            return toHost(TdxStatus.SUCCESS);
        }
        throw new ModuleHalt("VM exit " + ExitReason.name(basic) + " of a production TD");
    }

    private void run() {
        var vcpu = lp.vcpu;
        vcpu.flag(Tdvps.NMI_UNBLOCKING_DUE_TO_IRET, false);
        boolean failedEntry = (reason & ExitReason.ENTRY_FAILURE) != 0;
        if (!failedEntry) {
            vcpu.flag(Tdvps.VM_LAUNCHED, true);
        }
        if (lp.tdr.fatal()) {
            throw toHost(TdExit.NON_ACCESSIBLE, interruption);
        }
        lp.busLockPreempted |= (reason & ExitReason.BUS_LOCK_DETECTED) != 0;
        if (!lp.tdcs.debug() && (reason & UNEXPECTED) != 0) {
            throw new ModuleHalt(String.format(Locale.ROOT, "VM exit reason 0x%x", reason));
        }
        switch (new SingleStepFilter(lp).filter(basic, qualification, interruption)) {
            case WRONG_APIC_MODE -> throw toHost(TdxStatus.NON_RECOVERABLE_TD_WRONG_APIC_MODE, interruption);
            case RESUME -> {
                Debugger.intercept(lp);
                return;
            }
            case CONTINUE -> {
            }
        }
        EventDelivery.resume(this);
        if (failedEntry) {
            throw entryFailure();
        }
        dispatch();
        if (!Inject.pending(lp) && !interrupted) {
            NmiWindow.openIfPending(lp);
            countInstruction();
            Inject.advanceRip(lp);
        }
        leaveForBusLock(lp);
        Debugger.intercept(lp);
    }

    /// The instruction that the module emulated counts as executed.
    private void countInstruction() {
        if ((lp.attributes & Tdcs.PERFMON) == 0) {
            lp.cpu.wrmsr(TdMsr.FIXED_CTR0, lp.cpu.rdmsr(TdMsr.FIXED_CTR0) + 1);
        }
    }

    /// A bus lock that was preempted but not reported by a TD exit so far is reported now.
    public static void leaveForBusLock(LpState lp) {
        if (lp.busLockPreempted) {
            throw TdExit.async(lp, TdxStatus.SUCCESS, ExitReason.BUS_LOCK, 0, 0, 0, 0);
        }
    }

    private Transition entryFailure() {
        return switch (basic) {
            case ExitReason.INVALID_GUEST_STATE -> unexpected();
            case ExitReason.MACHINE_CHECK_DURING_ENTRY -> toHost(TdExit.NON_ACCESSIBLE);
            default -> throw new ModuleHalt("VM entry failed with reason " + basic);
        };
    }

    private void dispatch() {
        switch (basic) {
            case ExitReason.IO_INSTRUCTION, ExitReason.HLT, ExitReason.INVD, ExitReason.VMCALL, ExitReason.WBINVD,
                    ExitReason.PCONFIG, ExitReason.APIC_WRITE -> Inject.ve(lp, reason, qualification, 0, 0);
            case ExitReason.GETSEC, ExitReason.RSM, ExitReason.VMCLEAR, ExitReason.VMLAUNCH, ExitReason.VMPTRLD,
                    ExitReason.VMPTRST, ExitReason.VMREAD, ExitReason.VMRESUME, ExitReason.VMWRITE, ExitReason.VMXOFF,
                    ExitReason.VMXON, ExitReason.INVEPT, ExitReason.INVVPID, ExitReason.VMFUNC, ExitReason.ENCLS,
                    ExitReason.ENCLV, ExitReason.ENQCMDS_PASID, ExitReason.SEAMCALL, ExitReason.MWAIT,
                    ExitReason.MONITOR -> Inject.ud(lp);
            case ExitReason.ENQCMD_PASID -> Inject.gp(lp);
            case ExitReason.RDPMC -> RdpmcExit.handle(this);
            case ExitReason.CPUID -> CpuidExit.handle(lp);
            case ExitReason.XSETBV -> XsetbvExit.handle(lp);
            case ExitReason.RDMSR -> MsrExit.read(this);
            case ExitReason.WRMSR -> MsrExit.write(this);
            case ExitReason.CR_ACCESS -> {
                if (!CrAccess.handle(lp, qualification)) {
                    throw unexpected();
                }
            }
            case ExitReason.TDCALL -> interrupted = GuestCalls.handle(lp);
            case ExitReason.EPT_VIOLATION -> EptViolation.handle(this);
            case ExitReason.EPT_MISCONFIGURATION -> throw EptMisconfiguration.handle(this);
            case ExitReason.NMI_WINDOW -> NmiWindow.handle(lp);
            case ExitReason.EXCEPTION_OR_NMI -> throw EventExit.exceptionOrNmi(this);
            case ExitReason.EXTERNAL_INTERRUPT, C_STATE_SMI -> throw toHost(TdxStatus.SUCCESS, interruption);
            case ExitReason.OTHER_SMI -> throw EventExit.systemManagement(this);
            case ExitReason.NOTIFY_WINDOW -> throw EventExit.notifyWindow(this);
            case ExitReason.TASK_SWITCH, ExitReason.BUS_LOCK, ExitReason.INIT -> throw toHost(TdxStatus.SUCCESS);
            case ExitReason.TRIPLE_FAULT -> throw toHost(TdxStatus.NON_RECOVERABLE_VCPU);
            case ExitReason.PML_FULL -> throw debuggersOnly();
            default -> throw unexpected();
        }
    }
}
