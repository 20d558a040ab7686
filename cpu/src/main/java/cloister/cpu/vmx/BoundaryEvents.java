package cloister.cpu.vmx;

import static cloister.spec.vmx.VmcsField.*;

import cloister.cpu.core.Cpu;
import cloister.cpu.core.VmExitSignal;
import cloister.cpu.sys.EventDelivery;
import cloister.cpu.sys.PendingEvents;
import cloister.sim.TimerOwner;
import cloister.sim.VirtualClock;
import cloister.spec.vmx.Controls;
import cloister.spec.vmx.ExitReason;
import cloister.spec.vmx.Interruption;
import cloister.spec.x86.ExceptionVector;
import cloister.spec.x86.Rflags;

/// What VMX non-root operation adds to the events between two instructions: trap-like exits, monitor trap flag, preemption timer,
/// windows, virtual interrupts, and exits for NMIs and external interrupts. [SDM Vol. 3 "Priority Among Concurrent Events",
/// "Other Causes of VM Exits"]
final class BoundaryEvents implements TimerOwner<BoundaryEvents.TimerKind> {
    /// The preemption timer counts down by 1 when this bit of the TSC changes (IA32_VMX_MISC bits 4:0).
    static final int PREEMPTION_TIMER_RATE = 5;
    private static final int NO_TRAP = -1;

    private final Vmx vmx;
    private final Cpu cpu;
    private final PendingEvents events;

    boolean virtualNmiBlocked;
    private int trapReason = NO_TRAP;
    private long trapQualification;
    /// With the monitor trap flag: an exit is due at the next boundary.
    private int deliveriesAtEntry;
    private boolean monitorTrapPending;
    private long enteredAt;

    /// The timer of a processor's VMX operation.
    enum TimerKind {
        /// The VMX-preemption timer.
        PREEMPTION
    }

    private VirtualClock.Timer timer;
    private boolean timerArmed;
    private long timerDeadline;

    BoundaryEvents(Vmx vmx) {
        this.vmx = vmx;
        this.cpu = vmx.cpu;
        this.events = cpu.events;
    }

    /// A VM exit that follows the current instruction.
    void trap(int reason, long qualification) {
        trapReason = reason;
        trapQualification = qualification;
        events.raise();
    }

    void lookAtBoundary() {
        events.raise();
    }

    // --- VM entry and exit

    /// VM entry: arms what can be due at once or later.
    void load() {
        trapReason = NO_TRAP;
        monitorTrapPending = false;
        enteredAt = cpu.retired;
        deliveriesAtEntry = events.deliveries();
        armTimer();
        events.raise();
    }

    private void armTimer() {
        timerArmed = vmx.pin(Controls.PIN_PREEMPTION_TIMER);
        if (!timerArmed) {
            return;
        }
        long value = vmx.vmcs.read(PREEMPTION_TIMER_VALUE);
        timerDeadline = ((cpu.ticks() >>> PREEMPTION_TIMER_RATE) + value) << PREEMPTION_TIMER_RATE;
        if (value != 0) {
            timer = cpu.clock.schedule(timerDeadline, this, TimerKind.PREEMPTION);
        }
    }

    @Override public void timerFired(TimerKind kind) {
        events.raise();
    }

    /// VM exit: disarms the timer.
    void unload() {
        if (timer != null) {
            timer.cancel();
            timer = null;
        }
        trapReason = NO_TRAP;
    }

    /// What "save VMX-preemption timer value" saves.
    long timerValue() {
        return Math.max(0, timerDeadline - cpu.ticks() + (1 << PREEMPTION_TIMER_RATE) - 1) >>> PREEMPTION_TIMER_RATE;
    }

    /// The guest exits with "monitor trap flag" before it executes its first instruction. VM entry asks for it when it injects a
    /// pending MTF VM exit, and when it injects any event while the monitor trap flag is set. [SDM Vol. 3 "Monitor Trap Flag"]
    void monitorTrapNow() {
        monitorTrapPending = true;
        events.raise();
    }

    /// Whether an instruction has retired since VM entry, or an exception been delivered. [SDM Vol. 3 "Monitor Trap Flag"]
    private boolean stepped() {
        return cpu.retired != enteredAt || events.deliveries() != deliveriesAtEntry;
    }

    // --- boundaries

    void beforeTraps() {
        if (trapReason != NO_TRAP) {
            int reason = trapReason;
            trapReason = NO_TRAP;
            throw vmx.exit(reason, trapQualification);
        }
        if (monitorTrapPending || (stepped() && vmx.proc(Controls.PROC_MONITOR_TRAP_FLAG))) {
            throw vmx.exit(ExitReason.MONITOR_TRAP_FLAG, 0);
        }
    }

    void beforeNmi() {
        if (timerDue()) {
            throw vmx.exit(ExitReason.PREEMPTION_TIMER, 0);
        }
        if (nmiWindowOpen()) {
            throw vmx.exit(ExitReason.NMI_WINDOW, 0);
        }
    }

    private boolean timerDue() {
        return timerArmed && cpu.ticks() >= timerDeadline;
    }

    private boolean nmiWindowOpen() {
        return vmx.proc(Controls.PROC_NMI_WINDOW) && !virtualNmiBlocked && cpu.shadow() == 0;
    }

    /// An NMI waits and is not blocked.
    ///
    /// @return whether it goes through the guest's IDT
    boolean nmi() {
        if (!vmx.pin(Controls.PIN_NMI_EXITING)) {
            return true;
        }
        events.nmiPending = false;
        vmx.exit(ExitReason.EXCEPTION_OR_NMI, 0);
        vmx.vmcs.write(EXIT_INTERRUPTION_INFO, ExceptionVector.NMI | (Interruption.NMI << 8) | Interruption.VALID);
        throw VmExitSignal.INSTANCE;
    }

    boolean beforeInterrupts() {
        if (!interruptible()) {
            return false;
        }
        if (vmx.proc(Controls.PROC_INTERRUPT_WINDOW)) {
            throw vmx.exit(ExitReason.INTERRUPT_WINDOW, 0);
        }
        if (!vmx.apic.recognised) {
            return false;
        }
        int vector = vmx.apic.takeInterrupt();
        EventDelivery.deliver(cpu, Interruption.EXTERNAL, vector, 0, false, cpu.rip, 0, false);
        return true;
    }

    private boolean interruptible() {
        return (cpu.systemFlags & (int) Rflags.IF) != 0 && cpu.shadow() == 0;
    }

    /// An external interrupt waits for the processor itself.
    ///
    /// @return whether it goes through the guest's IDT
    boolean externalInterrupt() {
        if (!vmx.pin(Controls.PIN_EXTERNAL_INTERRUPT_EXITING)) {
            return true;
        }
        int vector = events.highestExternal();
        boolean acknowledge = vmx.vmcs.has(VM_EXIT_CONTROLS, Controls.EXIT_ACKNOWLEDGE_INTERRUPT);
        if (acknowledge && vmx.apic.isNotification(vector)) {
            events.acknowledge(vector);
            vmx.apic.processPosted();
            return false;
        }
        vmx.exit(ExitReason.EXTERNAL_INTERRUPT, 0);
        if (acknowledge) {
            events.acknowledge(vector);
            vmx.vmcs.write(EXIT_INTERRUPTION_INFO, vector | (Interruption.EXTERNAL << 8) | Interruption.VALID);
        }
        throw VmExitSignal.INSTANCE;
    }
}
