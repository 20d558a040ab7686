package cloister.cpu.core;

/// Executes guest code.
public final class Interpreter {
    private Interpreter() {
    }

    /// Runs from [Cpu#rip] for about `budget` instructions (block ends decide), or until [Cpu#attention] is non-zero; not one
    /// instruction when it already is. Afterwards `rip` is the next instruction.
    ///
    /// [GuestFault] and [VmExitSignal] pass through: `rip` is then the instruction that raised them, `retired` does
    /// not count it. With single-stepping or hardware breakpoints in force, use [#step] instead.
    public static void run(Cpu cpu, long budget) {
        long end = cpu.retired + budget;
        while (cpu.retired < end && cpu.attention == 0) {
            step(cpu);
        }
    }

    /// Executes exactly one instruction, whatever [Cpu#attention] says.
    public static void step(Cpu cpu) {
        throw new ModelLimit("execution engine not in place yet");
    }
}
