package cloister.tdx.fuzz;

import cloister.spec.tdx.SeamRegs;
import cloister.spec.vmx.ExitReason;
import cloister.spec.vmx.VmcsField;
import cloister.tdx.core.Gpa;
import cloister.tdx.core.LpState;
import cloister.tdx.core.Tdcs;
import cloister.tdx.port.Vmcs;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;

/// The VM exits that a guest can cause, by the controls in its VMCS. [SDM Vol. 3 "VMX Non-Root Operation"]
final class GuestExits {
    private record Conditional(int reason, VmcsField controls, int bit) {
    }

    /// Whatever the controls.
    private static final int[] ALWAYS = {ExitReason.CPUID, ExitReason.GETSEC, ExitReason.INVD, ExitReason.VMCALL, ExitReason.VMCLEAR,
        ExitReason.VMLAUNCH, ExitReason.VMPTRLD, ExitReason.VMPTRST, ExitReason.VMREAD, ExitReason.VMRESUME, ExitReason.VMWRITE,
        ExitReason.VMXOFF, ExitReason.VMXON, ExitReason.INVEPT, ExitReason.INVVPID, ExitReason.VMFUNC, ExitReason.SEAMCALL,
        ExitReason.INIT, ExitReason.TASK_SWITCH, ExitReason.OTHER_SMI, ExitReason.RSM};
    private static final List<Conditional> CONDITIONAL = List.of(
            new Conditional(ExitReason.INTERRUPT_WINDOW, VmcsField.PROC_BASED_CONTROLS, 2),
            new Conditional(ExitReason.HLT, VmcsField.PROC_BASED_CONTROLS, 7),
            new Conditional(ExitReason.INVLPG, VmcsField.PROC_BASED_CONTROLS, 9),
            new Conditional(ExitReason.MWAIT, VmcsField.PROC_BASED_CONTROLS, 10),
            new Conditional(ExitReason.RDPMC, VmcsField.PROC_BASED_CONTROLS, 11),
            new Conditional(ExitReason.RDTSC, VmcsField.PROC_BASED_CONTROLS, 12),
            new Conditional(ExitReason.NMI_WINDOW, VmcsField.PROC_BASED_CONTROLS, 22),
            new Conditional(ExitReason.MOV_DR, VmcsField.PROC_BASED_CONTROLS, 23),
            new Conditional(ExitReason.IO_INSTRUCTION, VmcsField.PROC_BASED_CONTROLS, 24),
            new Conditional(ExitReason.MONITOR_TRAP_FLAG, VmcsField.PROC_BASED_CONTROLS, 27),
            new Conditional(ExitReason.MONITOR, VmcsField.PROC_BASED_CONTROLS, 29),
            new Conditional(ExitReason.PAUSE, VmcsField.PROC_BASED_CONTROLS, 30),
            new Conditional(ExitReason.GDTR_IDTR_ACCESS, VmcsField.SECONDARY_PROC_BASED_CONTROLS, 2),
            new Conditional(ExitReason.LDTR_TR_ACCESS, VmcsField.SECONDARY_PROC_BASED_CONTROLS, 2),
            new Conditional(ExitReason.WBINVD, VmcsField.SECONDARY_PROC_BASED_CONTROLS, 6),
            new Conditional(ExitReason.APIC_WRITE, VmcsField.SECONDARY_PROC_BASED_CONTROLS, 8),
            new Conditional(ExitReason.RDRAND, VmcsField.SECONDARY_PROC_BASED_CONTROLS, 11),
            new Conditional(ExitReason.ENCLS, VmcsField.SECONDARY_PROC_BASED_CONTROLS, 15),
            new Conditional(ExitReason.RDSEED, VmcsField.SECONDARY_PROC_BASED_CONTROLS, 16),
            new Conditional(ExitReason.PML_FULL, VmcsField.SECONDARY_PROC_BASED_CONTROLS, 17),
            new Conditional(ExitReason.ENQCMD_PASID, VmcsField.SECONDARY_PROC_BASED_CONTROLS, 21),
            new Conditional(ExitReason.ENQCMDS_PASID, VmcsField.SECONDARY_PROC_BASED_CONTROLS, 21),
            new Conditional(ExitReason.PCONFIG, VmcsField.SECONDARY_PROC_BASED_CONTROLS, 27),
            new Conditional(ExitReason.ENCLV, VmcsField.SECONDARY_PROC_BASED_CONTROLS, 28),
            new Conditional(ExitReason.BUS_LOCK, VmcsField.SECONDARY_PROC_BASED_CONTROLS, 30),
            new Conditional(ExitReason.NOTIFY_WINDOW, VmcsField.SECONDARY_PROC_BASED_CONTROLS, 31),
            new Conditional(ExitReason.LOADIWKEY, VmcsField.TERTIARY_PROC_BASED_CONTROLS, 0));
    private static final int BUS_LOCK_DETECTION = 30;
    private static final int MC = 18;
    private static final long PAGE = 0xf_ffff_ffff_f000L;
    private static final long VALID = 1L << 31;
    private static final long ERROR_CODE = 1 << 11;
    private static final int HARDWARE_EXCEPTION = 3 << 8;
    private static final int NMI = (2 << 8) | 2;
    /// Exceptions with an error code: #DF, #TS, #NP, #SS, #GP, #PF, #AC, #CP.
    private static final int WITH_ERROR_CODE = (1 << 8) | (0x1f << 10) | (1 << 17) | (1 << 21);

    private final Vmcs vmcs;
    private final FuzzOperands operands;

    GuestExits(Vmcs vmcs, FuzzOperands operands) {
        this.vmcs = vmcs;
        this.operands = operands;
    }

    static boolean hasBusLockDetection(Vmcs vmcs) {
        return ((vmcs.read(VmcsField.SECONDARY_PROC_BASED_CONTROLS) >>> BUS_LOCK_DETECTION) & 1) != 0;
    }

    /// Whether the guest on an LP can cause the exit of a step, so that a sequence without some of its steps stays one that
    /// processors can show.
    static boolean possible(FuzzMachine machine, FuzzStep step) {
        var state = machine.lp(step.lp);
        var vmcs = state.vmcs;
        int reason = (int) step.operands[0] & 0xffff;
        return switch (reason) {
            case ExitReason.RDMSR, ExitReason.WRMSR -> intercepted(state, (int) step.operands[FuzzStep.REGISTERS + SeamRegs.RCX],
                    reason == ExitReason.WRMSR);
            case ExitReason.EPT_VIOLATION -> Gpa.isShared(step.operands[FuzzStep.GPA], state.tdcs.gpaw())
                    || !new GuestAccess(machine).reaches(step.lp, step.operands[FuzzStep.GPA] & PAGE, state.vcpu.currentVm());
            case ExitReason.EPT_MISCONFIGURATION -> Gpa.isShared(step.operands[FuzzStep.GPA], state.tdcs.gpaw());
            case ExitReason.EXCEPTION_OR_NMI -> {
                long info = step.operands[FuzzStep.INFO];
                yield ((info >>> 8) & 7) == 2 || (info & 0xff) == MC
                        || ((vmcs.read(VmcsField.EXCEPTION_BITMAP) >>> (info & 0x1f)) & 1) != 0;
            }
            case ExitReason.EXTERNAL_INTERRUPT, ExitReason.TRIPLE_FAULT, ExitReason.XSETBV, ExitReason.TDCALL, ExitReason.CR_ACCESS ->
                true;
            default -> Arrays.stream(ALWAYS).anyMatch(r -> r == reason) || CONDITIONAL.stream().anyMatch(
                    row -> row.reason == reason && ((vmcs.read(row.controls) >>> row.bit) & 1) != 0);
        };
    }

    /// Whether an access to an MSR causes an exit, by the TD's bitmaps.
    static boolean intercepted(LpState state, int msr, boolean write) {
        boolean listed = (msr & ~0x1fff) == 0 || (msr & ~0x1fff) == 0xc000_0000;
        int at = Tdcs.MSR_BITMAPS + (write ? 2048 : 0) + (msr < 0 ? 1024 : 0) + (msr & 0x1fff) / 8;
        return !listed || ((state.tdcs.u8(at) >> (msr & 7)) & 1) != 0;
    }

    /// A reason that needs nothing of the guest but an instruction, or an event from outside.
    int plain() {
        var possible = new ArrayList<Integer>();
        for (int reason : ALWAYS) {
            possible.add(reason);
        }
        for (var row : CONDITIONAL) {
            if (((vmcs.read(row.controls) >>> row.bit) & 1) != 0) {
                possible.add(row.reason);
            }
        }
        return operands.any(possible);
    }

    /// Interruption information of an exception that the bitmap intercepts, or of an NMI.
    long exception() {
        long bitmap = vmcs.read(VmcsField.EXCEPTION_BITMAP) & 0xffff_ffffL & ~(1 << MC);
        if (bitmap == 0 || operands.oneIn(3)) {
            return VALID | NMI;
        }
        int vector = operands.below(32);
        while (((bitmap >>> vector) & 1) == 0) {
            vector = (vector + 1) & 31;
        }
        return VALID | HARDWARE_EXCEPTION | vector | (((WITH_ERROR_CODE >>> vector) & 1) != 0 ? ERROR_CODE : 0);
    }

    /// IDT-vectoring information of an event whose delivery caused an exit, or 0.
    long vectoring() {
        if (!operands.oneIn(8)) {
            return 0;
        }
        return switch (operands.below(3)) {
            case 0 -> VALID | NMI;
            case 1 -> VALID | (32 + operands.below(224));
            default -> {
                int vector = operands.below(22);
                yield VALID | HARDWARE_EXCEPTION | vector | (((WITH_ERROR_CODE >>> vector) & 1) != 0 ? ERROR_CODE : 0);
            }
        };
    }

    /// The qualification of a control-register access that exits.
    long controlRegister() {
        int register = operands.below(16);
        return switch (operands.below(5)) {
            case 0, 1 -> (long) register << 8; // MOV to CR0
            case 2, 3 -> 4 | ((long) register << 8); // MOV to CR4
            default -> (3 << 4) | ((long) operands.below(16) << 16); // LMSW
        };
    }
}
