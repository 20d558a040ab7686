package cloister.cpu.sys;

import cloister.cpu.core.Cpu;
import cloister.cpu.core.ModelLimit;
import cloister.sim.Scheduler;

/// Runs one logical processor: events between instructions, slices, time.
public final class RunLoop {
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
    private final Scheduler scheduler;
    private volatile boolean stopRequested;

    /// @param scheduler null for a processor that runs alone
    public RunLoop(Cpu cpu, Scheduler scheduler) {
        this.cpu = cpu;
        this.scheduler = scheduler;
    }

    /// Runs until a VM exit (thrown as [cloister.cpu.core.VmExitSignal], which ends VMX non-root operation) or until `Stop`.
    public Stop run() {
        throw new ModelLimit("run loop not in place yet");
    }

    /// Makes [#run] return at the next instruction boundary.
    public void requestStop() {
        stopRequested = true;
        cpu.events.raise();
    }
}
