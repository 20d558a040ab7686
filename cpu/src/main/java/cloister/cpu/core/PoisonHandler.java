package cloister.cpu.core;

import cloister.memory.Poison;

/// Decides what becomes of consumed poison: a machine check of the guest, a VM exit, the end of a TD.
@FunctionalInterface
public interface PoisonHandler {
    /// Returns what to throw, [GuestFault] or [VmExitSignal]; the processor's `rip` is the consuming instruction.
    RuntimeException poisoned(Cpu cpu, Poison poison);
}
