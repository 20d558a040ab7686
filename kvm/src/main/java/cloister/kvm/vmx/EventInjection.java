package cloister.kvm.vmx;

import static cloister.spec.vmx.VmcsField.*;

import cloister.kvm.vcpu.QueuedEvents;
import cloister.spec.vmx.Controls;
import cloister.spec.vmx.GuestActivity;
import cloister.spec.vmx.Interruption;
import cloister.spec.x86.Cr0;
import cloister.spec.x86.ExceptionVector;
import cloister.spec.x86.Rflags;

/// Brings the events of an ordinary VM's vCPU into its VMCS, and finds those again whose delivery an exit broke off. [LINUX
/// kvm_check_and_inject_events, vmx_inject_exception, __vmx_complete_interrupts]
final class EventInjection {
    private static final int NO_INTERRUPTS = GuestActivity.BLOCKING_BY_STI | GuestActivity.BLOCKING_BY_MOV_SS;
    private static final long DR7_GENERAL_DETECT = 1 << 13;
    private static final long DR6_TRAPS = 0xf;
    /// Bits of DR6 that are 1 when nothing happened, and 0 for what a payload names.
    private static final long DR6_ACTIVE_LOW = 0xffff_0ff0L;
    /// "Enabled breakpoint" of a payload, which DR6 does not have.
    private static final long ENABLED_BREAKPOINT = 1 << 12;

    private final VmxVcpu vcpu;
    private final LoadedVmcs vmcs;
    private final QueuedEvents events;

    EventInjection(VmxVcpu vcpu) {
        this.vcpu = vcpu;
        this.vmcs = vcpu.vmcs;
        this.events = vcpu.events;
    }

    // --- what the guest is ready for

    boolean interruptAllowed() {
        return (vmcs.read(GUEST_RFLAGS) & Rflags.IF) != 0 && (vmcs.readInt(GUEST_INTERRUPTIBILITY_STATE) & NO_INTERRUPTS) == 0;
    }

    boolean nmiAllowed() {
        return (vmcs.readInt(GUEST_INTERRUPTIBILITY_STATE) & (NO_INTERRUPTS | GuestActivity.BLOCKING_BY_NMI)) == 0;
    }

    boolean nmiMasked() {
        return (vmcs.readInt(GUEST_INTERRUPTIBILITY_STATE) & GuestActivity.BLOCKING_BY_NMI) != 0;
    }

    void maskNmis(boolean masked) {
        int state = vmcs.readInt(GUEST_INTERRUPTIBILITY_STATE);
        vmcs.write(GUEST_INTERRUPTIBILITY_STATE,
                masked ? state | GuestActivity.BLOCKING_BY_NMI : state & ~GuestActivity.BLOCKING_BY_NMI);
    }

    // --- entry

    /// Makes the next entry take along what is due.
    ///
    /// @param interrupts whether the local APIC's interrupts are injected one by one
    /// @return whether the guest must exit at once: something else waits that this entry cannot take along
    boolean inject(boolean interrupts) {
        if (events.exceptionInjected) {
            injectException();
        } else if (!events.exceptionPending) { // an exception of the broken-off event's delivery takes its place
            if (events.nmiInjected) {
                injectNmi();
            } else if (events.interruptInjected) {
                injectInterrupt();
            }
        }
        boolean canInject = !events.needsReinjection();
        if (events.exceptionPending) {
            beginException();
            canInject = false;
        }
        if (events.nmiPending > 0) {
            if (!canInject) {
                return true;
            }
            if (nmiAllowed()) {
                events.nmiPending--;
                events.nmiInjected = true;
                injectNmi();
                canInject = false;
            }
            if (events.nmiPending > 0) {
                openNmiWindow();
            }
        }
        return interrupts && vcpu.apic.deliverable() >= 0 && nextInterrupt(canInject);
    }

    private boolean nextInterrupt(boolean canInject) {
        if (!canInject) {
            return true;
        }
        if (interruptAllowed()) {
            int vector = vcpu.apic.deliverable();
            vcpu.apic.acknowledge(vector);
            events.queueInterrupt(vector, false);
            injectInterrupt();
        }
        if (vcpu.apic.deliverable() >= 0) {
            window(Controls.PROC_INTERRUPT_WINDOW, true);
        }
        return false;
    }

    private void beginException() {
        if (isFault(events.vector)) { // the RFLAGS that it saves resume the instruction without its breakpoints
            vmcs.write(GUEST_RFLAGS, vmcs.read(GUEST_RFLAGS) | Rflags.RF);
        }
        if (events.vector == ExceptionVector.DB) {
            vmcs.write(GUEST_DR7, vmcs.read(GUEST_DR7) & ~DR7_GENERAL_DETECT);
        }
        injectException();
        events.exceptionPending = false;
        events.exceptionInjected = true;
    }

    /// [LINUX exception_type]
    private static boolean isFault(int vector) {
        return switch (vector) {
            case ExceptionVector.DB, ExceptionVector.BP, ExceptionVector.OF, ExceptionVector.DF, ExceptionVector.MC -> false;
            default -> true;
        };
    }

    private void injectException() {
        // In real-address mode exceptions push no error code. [LINUX kvm_inject_exception]
        events.hasErrorCode &= (vcpu.cr.cr0() & Cr0.PE) != 0;
        if (events.vector == ExceptionVector.DB && (vmcs.read(GUEST_RFLAGS) & Rflags.TF) != 0
                && (vmcs.readInt(GUEST_INTERRUPTIBILITY_STATE) & NO_INTERRUPTS) != 0) {
            // The entry's checks want a single step to be pending here, and do not see that it is about to be delivered.
            vmcs.write(GUEST_PENDING_DEBUG_EXCEPTIONS, vmcs.read(GUEST_PENDING_DEBUG_EXCEPTIONS) | GuestActivity.PENDING_BS);
        }
        deliverPayload();
        int info = events.vector;
        if (events.hasErrorCode) {
            vmcs.write(ENTRY_EXCEPTION_ERROR_CODE, events.errorCode & 0xffff);
            info |= Interruption.DELIVER_ERROR_CODE;
        }
        boolean soft = events.vector == ExceptionVector.BP || events.vector == ExceptionVector.OF;
        write(info, soft ? Interruption.SOFTWARE_EXCEPTION : Interruption.HARDWARE_EXCEPTION, soft);
    }

    /// [LINUX kvm_deliver_exception_payload]
    private void deliverPayload() {
        if (!events.hasPayload) {
            return;
        }
        if (events.vector == ExceptionVector.PF) {
            vcpu.cr2(events.payload);
        } else if (events.vector == ExceptionVector.DB) {
            long dr6 = (vcpu.dr6() & ~DR6_TRAPS) | DR6_ACTIVE_LOW | events.payload;
            vcpu.dr6((dr6 ^ (events.payload & DR6_ACTIVE_LOW)) & ~ENABLED_BREAKPOINT);
        }
        events.hasPayload = false;
        events.payload = 0;
    }

    private void injectNmi() {
        write(ExceptionVector.NMI, Interruption.NMI, false);
    }

    private void injectInterrupt() {
        write(events.interrupt, events.interruptSoft ? Interruption.SOFTWARE_INTERRUPT : Interruption.EXTERNAL, events.interruptSoft);
    }

    private void write(int info, int type, boolean soft) {
        if (soft) {
            vmcs.write(ENTRY_INSTRUCTION_LENGTH, events.instructionLength);
        }
        vmcs.write(ENTRY_INTERRUPTION_INFO, info | (type << 8) | Interruption.VALID);
    }

    /// The guest exits when it is ready for an NMI. Behind STI an NMI window may open too early: there the interrupt window, which
    /// does not, comes first. [LINUX vmx_enable_nmi_window]
    private void openNmiWindow() {
        boolean sti = (vmcs.readInt(GUEST_INTERRUPTIBILITY_STATE) & GuestActivity.BLOCKING_BY_STI) != 0;
        window(sti ? Controls.PROC_INTERRUPT_WINDOW : Controls.PROC_NMI_WINDOW, true);
    }

    /// Makes the guest exit when a window opens, or not any more.
    void window(int control, boolean wanted) {
        int controls = vmcs.readInt(PROC_BASED_CONTROLS);
        vmcs.write(PROC_BASED_CONTROLS, wanted ? controls | control : controls & ~control);
    }

    // --- exit

    /// What was on its way has arrived, except for what the exit broke off. [LINUX __vmx_complete_interrupts]
    void complete() {
        events.clearInjected();
        int info = vmcs.readInt(IDT_VECTORING_INFO);
        if (!Interruption.valid(info)) {
            return;
        }
        int type = Interruption.type(info);
        int vector = Interruption.vector(info);
        if (type == Interruption.SOFTWARE_EXCEPTION || type == Interruption.SOFTWARE_INTERRUPT) {
            events.instructionLength = vmcs.readInt(EXIT_INSTRUCTION_LENGTH);
        }
        switch (type) {
            case Interruption.NMI -> {
                events.nmiInjected = true;
                maskNmis(false); // else the entry could not take it along
            }
            case Interruption.HARDWARE_EXCEPTION, Interruption.SOFTWARE_EXCEPTION -> {
                boolean hasCode = (info & Interruption.DELIVER_ERROR_CODE) != 0;
                events.requeueException(vector, hasCode, hasCode ? vmcs.readInt(IDT_VECTORING_ERROR_CODE) : 0);
            }
            case Interruption.SOFTWARE_INTERRUPT, Interruption.EXTERNAL ->
                events.queueInterrupt(vector, type == Interruption.SOFTWARE_INTERRUPT);
            default -> { } // INT1 is executed again
        }
    }

    /// An IRET that ended the masking of NMIs faulted: they are masked again. [LINUX vmx_recover_nmi_blocking]
    void recoverNmiMask() {
        int info = vmcs.readInt(EXIT_INTERRUPTION_INFO);
        if (Interruption.valid(info) && (info & Interruption.NMI_UNBLOCKING) != 0
                && Interruption.vector(info) != ExceptionVector.DF && !Interruption.valid(vmcs.readInt(IDT_VECTORING_INFO))) {
            maskNmis(true);
        }
    }

    /// An IRET that ended the masking of NMIs met an EPT violation.
    void remaskNmis() {
        if (!Interruption.valid(vmcs.readInt(IDT_VECTORING_INFO))) {
            maskNmis(true);
        }
    }
}
