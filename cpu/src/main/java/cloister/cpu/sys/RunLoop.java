package cloister.cpu.sys;

import cloister.cpu.core.Cpu;
import cloister.cpu.core.GuestFault;
import cloister.cpu.core.Interpreter;
import cloister.cpu.core.StepAlone;
import cloister.isa.Instruction;
import cloister.sim.Scheduler;
import cloister.sim.SwitchPoint;
import cloister.spec.vmx.Interruption;
import cloister.spec.x86.ExceptionVector;
import cloister.spec.x86.Rflags;

/// Runs one logical processor: events between instructions, slices, time.
public final class RunLoop {
    /// Instructions between two looks at the clock and the scheduler.
    private static final long SLICE = 30_000;
    /// No slice is shorter, however near the next timer.
    private static final long SHORTEST_SLICE = 200;
    private static final int TF = (int) Rflags.TF;
    private static final int RF = (int) Rflags.RF;
    private static final int IF = (int) Rflags.IF;
    private static final long DEBUGCTL_BTF = 1L << 1;

    /// Why [#run] returned.
    public enum Stop {
        /// HLT outside VMX, and nothing is armed that could end it.
        HALTED_FOREVER,
        /// Shutdown after a triple fault outside VMX.
        SHUTDOWN,
        /// [#requestStop] was called.
        REQUESTED
    }

    private final Cpu cpu;
    private final PendingEvents events;
    private final Scheduler scheduler;
    private volatile boolean stopRequested;
    private long sliceEnd;
    private GuestSampler sampler;
    private long samplePeriod;
    private long lastSample;
    private long nextSample = Long.MAX_VALUE;

    /// Instructions that had retired when the last exception was raised.
    private long faultedAt = -1;

    /// @param scheduler null for a processor that runs alone
    public RunLoop(Cpu cpu, Scheduler scheduler) {
        this.cpu = cpu;
        this.events = cpu.events;
        this.scheduler = scheduler;
        this.sliceEnd = cpu.retired;
    }

    /// Runs until a VM exit (thrown as [cloister.cpu.core.VmExitSignal], which ends VMX non-root operation) or until `Stop`.
    public Stop run() {
        events.raise();
        cpu.watchpoints.take(); // what delivery by VM entry has met is not reported
        meetNextTimer();
        while (true) {
            if (stopRequested) {
                stopRequested = false;
                return Stop.REQUESTED;
            }
            if (cpu.retired >= sliceEnd || events.spinning) {
                endSlice();
            }
            if (events.raised()) {
                atBoundary();
            }
            if (events.activity == PendingEvents.ACTIVE) {
                execute();
            } else if (events.activity == PendingEvents.SHUTDOWN && !cpu.vmx.active()) {
                return Stop.SHUTDOWN;
            } else if (!events.raised() && !await()) {
                return Stop.HALTED_FOREVER;
            }
        }
    }

    /// Makes [#run] return at the next instruction boundary.
    public void requestStop() {
        stopRequested = true;
        events.raise();
    }

    /// Tells `sampler` where the guest is, at the first slice end after every `period` retired instructions. Only there: to leave
    /// the interpreter earlier would change where slices end, and so the run.
    public void sample(long period, GuestSampler value) {
        sampler = value;
        samplePeriod = period;
        lastSample = cpu.retired;
        nextSample = cpu.retired + period;
    }

    private void endSlice() {
        events.spinning = false;
        if (cpu.retired >= nextSample) {
            sampler.sampled(cpu.rip, cpu.cpl, cpu.lstar, cpu.retired - lastSample);
            lastSample = cpu.retired;
            nextSample = cpu.retired + samplePeriod;
        }
        cpu.advanceClock();
        if (scheduler != null) {
            scheduler.switchPoint(SwitchPoint.GUEST_SLICE, this, cpu.index);
            cpu.advanceClock();
        }
        sliceEnd = cpu.retired + SLICE;
        meetNextTimer();
        // DEVIATION: where exceptions cause each other without end, by a data breakpoint on the stack of their delivery, the processor
        // never comes to look for interrupts. Here it does now and then, so that the host gets it back.
        if (cpu.retired == faultedAt && cpu.vmx.active() && events.highestExternal() >= 0) {
            cpu.vmx.externalInterrupt(cpu);
        }
    }

    /// Lets the slice end when the next timer is due: the host may have armed one since the slice began.
    private void meetNextTimer() {
        long untilTimer = Math.max(SHORTEST_SLICE, cpu.clock.nextDeadline() - cpu.ticks());
        if (untilTimer < sliceEnd - cpu.retired) {
            sliceEnd = cpu.retired + untilTimer;
        }
    }

    // Events

    /// Takes at most one event. [SDM Vol. 3 "Priority Among Concurrent Events"]
    private void atBoundary() {
        cpu.attention &= ~PendingEvents.ATTENTION;
        cpu.vmx.beforeTraps(cpu);
        int shadow = cpu.shadow();
        if (events.pendingDebug != 0 && shadow != Cpu.SHADOW_MOV_SS) {
            long bits = events.pendingDebug & ~DebugRegisters.PENDING_ENABLED;
            boolean due = (events.pendingDebug & DebugRegisters.PENDING_CAUSES) != 0;
            events.pendingDebug = 0;
            if (!due) {
                events.raise();
                return;
            }
            letTimePass();
            EventDelivery.deliver(cpu, Interruption.HARDWARE_EXCEPTION, ExceptionVector.DB, 0, false, cpu.rip, bits, false);
            events.raise();
            return;
        }
        cpu.vmx.beforeNmi(cpu);
        if (events.nmiPending && !events.nmiBlocked && shadow == 0 && cpu.vmx.nmi(cpu)) {
            events.nmiPending = false;
            events.nmiBlocked = true;
            EventDelivery.deliver(cpu, Interruption.NMI, ExceptionVector.NMI, 0, false, cpu.rip, 0, false);
            events.raise();
            return;
        }
        if (cpu.vmx.beforeInterrupts(cpu)) {
            events.raise();
            return;
        }
        int vector = events.highestExternal();
        if (vector >>> 4 > cpu.cr8 && vector >= 0 && cpu.vmx.externalInterrupt(cpu) && shadow == 0 && (cpu.systemFlags & IF) != 0) {
            events.acknowledge(vector);
            EventDelivery.deliver(cpu, Interruption.EXTERNAL, vector, 0, false, cpu.rip, 0, false);
            events.raise();
        }
    }

    /// HLT and the other inactive states: time passes until something is raised.
    ///
    /// @return false when nothing can come
    private boolean await() {
        cpu.advanceClock();
        if (events.raised()) {
            return true;
        }
        if (scheduler == null || scheduler.current() == null) {
            return cpu.clock.skipToNextDeadline();
        }
        var thread = scheduler.current();
        events.waker = () -> scheduler.unpark(thread);
        scheduler.park();
        events.waker = null;
        return true;
    }

    // Instructions

    private void execute() {
        cpu.watchpoints.follow(cpu);
        if (cpu.watchpoints.met()) { // by the delivery of an event
            dataBreakpoint();
            return;
        }
        try {
            if (mustStep()) {
                step();
            } else {
                cpu.systemFlags &= ~RF; // only instruction breakpoints care, and none is armed
                runBlocks();
            }
        } catch (GuestFault fault) {
            cpu.watchpoints.take(); // the instruction did not complete
            letTimePass();
            EventDelivery.deliverFault(cpu, fault);
            if (cpu.vmx.singleSteps(cpu)) {
                events.raise(); // a fault's delivery is a step, too
            }
            if (cpu.shadow() != 0) {
                cpu.shadowAt = -1;
            }
        }
    }

    /// An exception whose handler begins with the next one retires nothing: it costs time all the same, so that the slice ends.
    private void letTimePass() {
        if (cpu.retired == faultedAt) {
            cpu.spendTick();
            sliceEnd--;
        }
        faultedAt = cpu.retired;
    }

    private void runBlocks() {
        try {
            Interpreter.run(cpu, Math.max(1, sliceEnd - cpu.retired));
        } catch (StepAlone again) {
            step();
        }
    }

    private boolean mustStep() {
        return (cpu.systemFlags & TF) != 0 || DebugRegisters.armed(cpu) || cpu.shadow() != 0 || cpu.vmx.singleSteps(cpu);
    }

    private void step() {
        if (DebugRegisters.armed(cpu) && (cpu.systemFlags & RF) == 0 && cpu.shadow() != Cpu.SHADOW_MOV_SS) {
            long hits = DebugRegisters.instructionHits(cpu, linearRip());
            if (hits != 0) {
                throw cpu.debug(hits);
            }
        }
        boolean trap = (cpu.systemFlags & TF) != 0;
        boolean hadRf = (cpu.systemFlags & RF) != 0;
        int deliveries = events.deliveries;
        boolean branchesOnly = (cpu.debugctl & DEBUGCTL_BTF) != 0;
        long before = cpu.rip;
        Instruction insn;
        cpu.systemFlags &= ~RF;
        try {
            insn = Interpreter.step(cpu);
        } catch (GuestFault fault) {
            if (hadRf) {
                cpu.systemFlags |= RF;
            }
            throw fault;
        }
        if (trap && events.deliveries == deliveries && (!branchesOnly || branched(insn, before))) {
            events.pendingDebug |= DebugRegisters.DR6_BS;
        }
        dataBreakpoint();
        events.raise();
    }

    /// Data and I/O breakpoints trap after the access. [SDM Vol. 3 "Data Memory and I/O Breakpoint Exception Conditions"]
    private void dataBreakpoint() {
        if (cpu.watchpoints.met()) {
            events.pendingDebug |= cpu.watchpoints.take() | DebugRegisters.PENDING_ENABLED;
            events.raise();
        }
    }

    /// Whether the instruction at `before` has just taken a branch. A repeated one that is not done has not.
    private boolean branched(Instruction insn, long before) {
        boolean repeats = cpu.rip == before && insn.has(Instruction.PREFIX_REP | Instruction.PREFIX_REPNE);
        return cpu.rip != before + insn.length && !repeats;
    }

    private long linearRip() {
        return cpu.is64Bit() ? cpu.rip : (cpu.segBase[Cpu.CS] + cpu.rip) & 0xffff_ffffL;
    }
}
