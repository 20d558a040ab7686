package cloister.tdx.exits;

import cloister.spec.vmx.ExitReason;
import cloister.spec.vmx.VmcsField;
import cloister.spec.x86.Msr;
import cloister.tdx.core.LpState;
import cloister.tdx.core.TdMsr;
import cloister.tdx.core.Tdcs;
import cloister.tdx.core.Tdvps;
import cloister.tdx.core.VmcsInit;

/// Defence against a VMM that interrupts a TD after every instruction: the TD executes a random number of instructions more,
/// with interrupts postponed, before the VMM sees its exit. [TDX-BASE "Single-Step Attack Mitigation"]
final class SingleStepFilter {
    /// What to do with a VM exit.
    enum Verdict { CONTINUE, RESUME, WRONG_APIC_MODE }

    private static final long TSC_THRESHOLD = 4096;
    /// Bytes; one more than an instruction can have, as the module counts.
    private static final int MAX_INSTRUCTION = 16;
    private static final int MAX_STEPS = 32;
    private static final int LFSR_POLYNOMIAL = 0xb4bc_d35c;
    private static final long APIC_ENABLE = 1 << 11;
    /// CR8 that keeps out all interrupts; CR8 is bits 7:4 of the TPR.
    private static final long BLOCK_INTERRUPTS = 15;
    private static final int CR8_IN_TPR = 4;
    private static final int NMI_VECTOR = 2;
    private static final long DELIVERY_NMI = 4 << 8;
    private static final long DELIVERY_INIT = 5 << 8;
    private static final long BLOCKING_STI = 1;
    private static final long BLOCKING_MOVSS = 2;
    private static final long PENDING_ENABLED = 1 << 12;
    private static final long PENDING_BS = 1 << 14;
    private static final long PENDING_RTM = 1 << 16;

    private final LpState lp;
    private final LpState.SingleStep step;

    SingleStepFilter(LpState lp) {
        this.lp = lp;
        this.step = lp.stepping;
    }

    Verdict filter(int basic, long qualification, long interruption) {
        long rip = lp.vmcs.read(VmcsField.GUEST_RIP);
        long ripDelta = rip - step.ripOnEntry;
        if (ripDelta != 0) {
            ZeroStepFilter.reset(lp.vcpu);
        }
        boolean perfmon = (lp.attributes & Tdcs.PERFMON) != 0;
        boolean interrupt = basic == ExitReason.EXTERNAL_INTERRUPT;
        boolean mtf = basic == ExitReason.MONITOR_TRAP_FLAG;
        boolean nmi = basic == ExitReason.EXCEPTION_OR_NMI && (interruption & 0xff) == NMI_VECTOR;
        boolean init = basic == ExitReason.INIT;
        boolean smi = basic == ExitReason.OTHER_SMI && (qualification & 1) == 0;
        if (interrupt || mtf || smi || nmi || init) {
            if (!step.active) {
                if (madeProgress(perfmon, rip) || step.fruitless > MAX_STEPS) {
                    step.fruitless = 0;
                    return Verdict.CONTINUE;
                }
                if ((lp.cpu.rdmsr(Msr.IA32_APIC_BASE) & APIC_ENABLE) == 0) {
                    return Verdict.WRONG_APIC_MODE;
                }
                start(interrupt ? interruption & 0xff : -1);
            }
            step.nmiOccurred |= nmi;
            step.initOccurred |= init;
            if (step.instructionsLeft > 0) {
                blockOneInstruction(rip);
                step.instructionsLeft--;
                return Verdict.RESUME;
            }
        }
        if (step.active) {
            stop(nmi, init);
            // DEVIATION: a guest of which only exceptions happen that the module itself injects never steps, and the module never shows
            // the VMM its interrupts. Here the filter gives up when it has been broken off more often than it ever steps.
            step.fruitless = mtf ? 0 : step.fruitless + 1;
            if (mtf) {
                if (perfmon) {
                    step.lastEntryTsc = 0;
                } else {
                    lp.cpu.wrmsr(TdMsr.FIXED_CTR0, 2);
                }
                return Verdict.RESUME;
            }
        }
        return Verdict.CONTINUE;
    }

    private boolean madeProgress(boolean perfmon, long rip) {
        if (perfmon) {
            long distance = Long.compareUnsigned(rip, step.ripOnEntry) > 0 ? rip - step.ripOnEntry : step.ripOnEntry - rip;
            return Long.compareUnsigned(distance, 2 * MAX_INSTRUCTION) > 0
                    || Long.compareUnsigned(lp.vcpu.u64(Tdvps.LAST_EXIT_TSC) - step.lastEntryTsc, TSC_THRESHOLD) > 0;
        }
        long retired = lp.cpu.rdmsr(TdMsr.FIXED_CTR0);
        long rcxDelta = lp.guestRcxOnEntry - lp.vcpu.gpr(LpState.RCX);
        return Long.compareUnsigned(retired, 1) > 0 || (retired == 0 && Long.compareUnsigned(rcxDelta, 1) > 0);
    }

    private void start(long vector) {
        step.instructionsLeft = (random() & 0x1f) + 1;
        step.active = true;
        step.savedCr8 = lp.cpu.rdmsr(TdMsr.X2APIC_TPR) >>> CR8_IN_TPR;
        lp.cpu.wrmsr(TdMsr.X2APIC_TPR, BLOCK_INTERRUPTS << CR8_IN_TPR);
        if (vector >= 0) {
            lp.cpu.wrmsr(TdMsr.X2APIC_EOI, 0);
            selfIpi(vector);
        }
        monitorTrapFlag(true);
    }

    private int random() {
        int value = lp.lfsr;
        lp.lfsr = (value & 1) == 0 ? value >>> 1 : (value >>> 1) ^ LFSR_POLYNOMIAL;
        return lp.lfsr;
    }

    private void selfIpi(long command) {
        lp.cpu.wrmsr(TdMsr.X2APIC_ICR, command | (lp.cpu.rdmsr(TdMsr.X2APIC_ID) << 32));
    }

    private void monitorTrapFlag(boolean on) {
        long controls = lp.vmcs.read(VmcsField.PROC_BASED_CONTROLS);
        lp.vmcs.write(VmcsField.PROC_BASED_CONTROLS,
                on ? controls | VmcsInit.PROC_MONITOR_TRAP_FLAG : controls & ~(long) VmcsInit.PROC_MONITOR_TRAP_FLAG);
    }

    /// MOV SS blocking keeps events out until the guest has executed one more instruction.
    private void blockOneInstruction(long rip) {
        long state = lp.vmcs.read(VmcsField.GUEST_INTERRUPTIBILITY_STATE);
        long pending = lp.vmcs.read(VmcsField.GUEST_PENDING_DEBUG_EXCEPTIONS);
        if ((pending & (PENDING_ENABLED | PENDING_BS | PENDING_RTM)) == 0 && !breaksAt(rip) && (state & BLOCKING_STI) == 0) {
            Inject.pendSingleStep(lp);
            lp.vmcs.write(VmcsField.GUEST_INTERRUPTIBILITY_STATE, state | BLOCKING_MOVSS);
        }
    }

    private boolean breaksAt(long rip) {
        long dr7 = lp.vmcs.read(VmcsField.GUEST_DR7);
        for (int i = 0; i < 4 && (dr7 & 0xff) != 0; i++) {
            if (((dr7 >>> (2 * i)) & 3) != 0 && ((dr7 >>> (16 + 4 * i)) & 0xf) == 0 && lp.cpu.debugRegister(i) == rip) {
                return true;
            }
        }
        return false;
    }

    private void stop(boolean nmi, boolean init) {
        if (step.nmiOccurred && !nmi) {
            selfIpi(DELIVERY_NMI);
        }
        if (step.initOccurred && !init) {
            selfIpi(DELIVERY_INIT);
        }
        lp.cpu.wrmsr(TdMsr.X2APIC_TPR, step.savedCr8 << CR8_IN_TPR);
        monitorTrapFlag(false);
        step.active = false;
        step.instructionsLeft = 0;
        step.nmiOccurred = false;
        step.initOccurred = false;
        step.savedCr8 = 0;
    }
}
