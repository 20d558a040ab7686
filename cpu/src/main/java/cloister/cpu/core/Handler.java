package cloister.cpu.core;

import cloister.isa.Instruction;

/// The slow form of instructions: a static method of the class that owns their operations.
@FunctionalInterface
public interface Handler {
    /// Executes `insn`. On entry [Cpu#rip] is its address, [Cpu#nextRip] that of the next instruction, [Cpu#retired] the count
    /// before it. Throws [GuestFault] or [VmExitSignal] before it has changed anything, or returns having done
    /// all of it (restartable string instructions may do a part and set `nextRip = rip`).
    void execute(Cpu cpu, Instruction insn);
}
