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
import cloister.tdx.core.VmcsInit;
import cloister.tdx.tdcall.GuestCalls;

/// What the module does with a VM exit of a TD. [TDX-BASE "TD VM Exits"]
public final class VmExit {
    private static final long ENTRY_FAILURE = 1L << 31;
    private static final long BUS_LOCK_PREEMPTED = 1 << 26;
    /// Exit reason bits that a TD does not cause: all above the basic reason but 26, 27 and 31.
    private static final long UNEXPECTED = 0x73ff_0000L;
    private static final long VALID = 1L << 31;
    private static final int NMI_TYPE = 2;
    private static final int MC_VECTOR = 18;
    private static final long BLOCKING_NMI = 1 << 3;
    private static final long NMI_UNBLOCKED = 1 << 12;
    private static final int C_STATE_SMI = 42;
    private static final long BUS_LOCK_REASON = ExitReason.BUS_LOCK;

    private final LpState lp;
    private final long reason;
    private final int basic;
    private final long qualification;
    private final long interruption;
    /// A leaf function stopped half-way for an interrupt: its instruction is executed again.
    private boolean interrupted;

    private VmExit(LpState lp) {
        this.lp = lp;
        this.reason = lp.vmcs.read(VmcsField.EXIT_REASON);
        this.basic = (int) reason & 0xffff;
        this.qualification = lp.vmcs.read(VmcsField.EXIT_QUALIFICATION);
        this.interruption = lp.vmcs.read(VmcsField.EXIT_INTERRUPTION_INFO);
    }

    /// @return true to resume the guest, false when TDH.VP.ENTER ended
    public static boolean handle(LpState lp) {
        lp.vcpu.u64(Tdvps.LAST_EXIT_TSC, lp.cpu.tsc());
        saveRegisters(lp);
        lp.vcpu.u64(Tdvps.SPEC_CTRL, lp.cpu.rdmsr(Msr.IA32_SPEC_CTRL));
        try {
            new VmExit(lp).dispatch();
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

    public static void loadRegisters(LpState lp) {
        long[] registers = lp.cpu.registers();
        for (int i = 0; i < 16; i++) {
            if (i != LpState.RSP) {
                registers[i] = lp.vcpu.gpr(i);
            }
        }
    }

    public static void nmiWindow(LpState lp, boolean open) {
        long controls = lp.vmcs.read(VmcsField.PROC_BASED_CONTROLS);
        long bit = VmcsInit.PROC_NMI_WINDOW_EXITING;
        lp.vmcs.write(VmcsField.PROC_BASED_CONTROLS, open ? controls | bit : controls & ~bit);
    }

    private Transition exit(TdxStatus status, long interruptionInfo) {
        return TdExit.async(lp, status, reason, qualification, 0, 0, interruptionInfo);
    }

    /// A TD exit of a debug TD, the end of any other.
    private Transition unexpected() {
        return exit(lp.tdcs.debug() ? TdxStatus.SUCCESS : TdxStatus.NON_RECOVERABLE_TD, 0);
    }

    private void dispatch() {
        var vcpu = lp.vcpu;
        vcpu.flag(Tdvps.NMI_UNBLOCKING_DUE_TO_IRET, false);
        if ((reason & ENTRY_FAILURE) == 0) {
            vcpu.flag(Tdvps.VM_LAUNCHED, true);
        }
        if (lp.tdr.fatal()) {
            throw exit(TdExit.NON_ACCESSIBLE, interruption);
        }
        lp.busLockPreempted |= (reason & BUS_LOCK_PREEMPTED) != 0;
        if (!lp.tdcs.debug() && (reason & UNEXPECTED) != 0) {
            throw new ModuleHalt(String.format("VM exit reason 0x%x", reason));
        }
        switch (new Stepping(lp).filter(basic, qualification, interruption)) {
            case WRONG_APIC_MODE -> throw exit(TdxStatus.NON_RECOVERABLE_TD_WRONG_APIC_MODE, interruption);
            case RESUME -> {
                debuggerIntercept();
                return;
            }
            case CONTINUE -> {
            }
        }
        if ((lp.vmcs.read(VmcsField.IDT_VECTORING_INFO) & VALID) != 0) {
            reinject();
        }
        if ((reason & ENTRY_FAILURE) != 0) {
            entryFailure();
        }
        handleReason();
        if (!Inject.pending(lp) && !interrupted) {
            if (vcpu.pendNmi() && !vcpu.veInfoValid()) {
                nmiWindow(lp, true);
            }
            if ((lp.attributes & Tdcs.PERFMON) == 0) {
                lp.cpu.wrmsr(TdMsr.FIXED_CTR0, lp.cpu.rdmsr(TdMsr.FIXED_CTR0) + 1);
            }
            Inject.advanceRip(lp);
        }
        leaveForBusLock(lp);
        debuggerIntercept();
    }

    /// A bus lock that was preempted but not reported by a TD exit so far is reported now.
    public static void leaveForBusLock(LpState lp) {
        if (lp.busLockPreempted) {
            throw TdExit.async(lp, TdxStatus.SUCCESS, BUS_LOCK_REASON, 0, 0, 0, 0);
        }
    }

    private void debuggerIntercept() {
        debuggerIntercept(lp);
    }

    public static void debuggerIntercept(LpState lp) {
        if (lp.tdcs.debug() && Inject.intercepted(lp)) {
            throw TdExit.async(lp, TdxStatus.SUCCESS, ExitReason.EXCEPTION_OR_NMI, 0, 0, 0,
                    lp.vmcs.read(VmcsField.ENTRY_INTERRUPTION_INFO));
        }
    }

    /// The exit interrupted the delivery of an event: deliver it again on entry.
    private void reinject() {
        if (basic != ExitReason.TASK_SWITCH && basic != ExitReason.EPT_VIOLATION
                && basic != ExitReason.EPT_MISCONFIGURATION) {
            if (lp.tdcs.debug()) {
                throw exit(TdxStatus.SUCCESS, 0);
            }
            throw new ModuleHalt("VM exit " + basic + " during event delivery");
        }
        var vmcs = lp.vmcs;
        long info = vmcs.read(VmcsField.IDT_VECTORING_INFO);
        if ((info >>> 8 & 7) == NMI_TYPE) {
            long state = vmcs.read(VmcsField.GUEST_INTERRUPTIBILITY_STATE);
            vmcs.write(VmcsField.GUEST_INTERRUPTIBILITY_STATE, state & ~BLOCKING_NMI);
        }
        vmcs.write(VmcsField.ENTRY_INTERRUPTION_INFO, info & 0x8000_0fffL);
        if ((info & 1 << 11) != 0) {
            vmcs.write(VmcsField.ENTRY_EXCEPTION_ERROR_CODE, vmcs.read(VmcsField.IDT_VECTORING_ERROR_CODE));
        }
        vmcs.write(VmcsField.ENTRY_INSTRUCTION_LENGTH, vmcs.read(VmcsField.EXIT_INSTRUCTION_LENGTH));
    }

    private void entryFailure() {
        switch (basic) {
            case ExitReason.INVALID_GUEST_STATE -> throw unexpected();
            case ExitReason.MACHINE_CHECK_DURING_ENTRY -> throw exit(TdExit.NON_ACCESSIBLE, 0);
            default -> throw new ModuleHalt("VM entry failed with reason " + basic);
        }
    }

    private void handleReason() {
        switch (basic) {
            case ExitReason.IO_INSTRUCTION, ExitReason.HLT, ExitReason.INVD, ExitReason.VMCALL, ExitReason.WBINVD,
                    ExitReason.PCONFIG, ExitReason.APIC_WRITE -> Inject.ve(lp, reason, qualification, 0, 0);
            case ExitReason.GETSEC, ExitReason.RSM, ExitReason.VMCLEAR, ExitReason.VMLAUNCH, ExitReason.VMPTRLD,
                    ExitReason.VMPTRST, ExitReason.VMREAD, ExitReason.VMRESUME, ExitReason.VMWRITE, ExitReason.VMXOFF,
                    ExitReason.VMXON, ExitReason.INVEPT, ExitReason.INVVPID, ExitReason.VMFUNC, ExitReason.ENCLS,
                    ExitReason.ENCLV, ExitReason.ENQCMDS_PASID, ExitReason.SEAMCALL, ExitReason.MWAIT,
                    ExitReason.MONITOR -> Inject.ud(lp);
            case ExitReason.ENQCMD_PASID -> Inject.gp(lp);
            case ExitReason.TASK_SWITCH, ExitReason.BUS_LOCK, ExitReason.INIT -> throw exit(TdxStatus.SUCCESS, 0);
            case ExitReason.NOTIFY_WINDOW -> notifyWindow();
            case ExitReason.TRIPLE_FAULT -> throw exit(TdxStatus.NON_RECOVERABLE_VCPU, 0);
            case ExitReason.OTHER_SMI -> throw exit((qualification & 1) != 0 ? TdExit.NON_ACCESSIBLE : TdxStatus.SUCCESS,
                    interruption);
            case ExitReason.EXTERNAL_INTERRUPT, C_STATE_SMI -> throw exit(TdxStatus.SUCCESS,
                    interruption);
            case ExitReason.RDPMC -> performanceCounter();
            case ExitReason.EPT_MISCONFIGURATION -> EptExits.misconfiguration(lp, reason);
            case ExitReason.EPT_VIOLATION -> EptExits.violation(lp, reason, qualification);
            case ExitReason.CPUID -> CpuidExit.handle(lp);
            case ExitReason.XSETBV -> ControlRegisters.xsetbv(lp);
            case ExitReason.CR_ACCESS -> {
                if (!ControlRegisters.handle(lp, qualification)) {
                    throw unexpected();
                }
            }
            case ExitReason.EXCEPTION_OR_NMI -> exceptionOrNmi();
            case ExitReason.RDMSR -> msr(MsrExit.read(lp));
            case ExitReason.WRMSR -> msr(MsrExit.write(lp));
            case ExitReason.TDCALL -> interrupted = GuestCalls.handle(lp);
            case ExitReason.NMI_WINDOW -> nmiWindowOpen();
            case ExitReason.PML_FULL -> {
                if (lp.tdcs.debug()) {
                    throw exit(TdxStatus.SUCCESS, 0);
                }
                throw new ModuleHalt("page-modification log full");
            }
            default -> throw unexpected();
        }
    }

    private void notifyWindow() {
        if ((qualification & NMI_UNBLOCKED) != 0) {
            EptExits.blockNmi(lp);
        }
        throw exit((qualification & 1) != 0 ? TdxStatus.NON_RECOVERABLE_TD : TdxStatus.SUCCESS, 0);
    }

    private void performanceCounter() {
        if ((lp.attributes & Tdcs.PERFMON) == 0) {
            Inject.gp(lp);
        } else if (lp.tdcs.debug()) {
            throw exit(TdxStatus.SUCCESS, 0);
        } else {
            throw new ModuleHalt("RDPMC exit of a TD with performance monitoring");
        }
    }

    private void exceptionOrNmi() {
        if ((interruption >>> 8 & 7) == NMI_TYPE) {
            throw exit(TdxStatus.SUCCESS, interruption);
        }
        if ((interruption & 0xff) == MC_VECTOR) {
            throw exit(TdExit.NON_ACCESSIBLE, interruption);
        }
        if (lp.tdcs.debug()) {
            throw exit(TdxStatus.SUCCESS, interruption);
        }
        throw new ModuleHalt(String.format("exception exit 0x%x", interruption));
    }

    private void msr(MsrExit.Outcome outcome) {
        switch (outcome) {
            case DONE -> {
            }
            case GP -> Inject.gp(lp);
            case VE -> Inject.ve(lp, reason, 0, 0, 0);
        }
    }

    private void nmiWindowOpen() {
        if (lp.vcpu.pendNmi() && !lp.vcpu.veInfoValid()) {
            Inject.nmi(lp);
            lp.vcpu.flag(Tdvps.PEND_NMI, false);
        }
        nmiWindow(lp, false); // The instruction length of this exit is 0: no RIP to advance.
    }
}
