package cloister.cpu.sys;

import cloister.cpu.core.Cpu;

/// The model-specific registers of one logical processor.
public final class Msrs {
    private final Cpu cpu;

    public Msrs(Cpu cpu) {
        this.cpu = cpu;
    }

    /// RDMSR.
    ///
    /// @throws cloister.cpu.core.GuestFault #GP(0) when there is no such MSR
    public long read(int msr) {
        throw cpu.gp(0);
    }

    /// WRMSR.
    ///
    /// @throws cloister.cpu.core.GuestFault #GP(0) when there is no such MSR, it is read-only, or `value` is not legal
    public void write(int msr, long value) {
        throw cpu.gp(0);
    }
}
