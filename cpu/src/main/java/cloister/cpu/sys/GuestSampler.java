package cloister.cpu.sys;

/// Hears where a guest is, from time to time; see [RunLoop#sample]. It only looks.
@FunctionalInterface
public interface GuestSampler {
    /// The guest is about to execute an instruction.
    ///
    /// @param rip   its address, an offset in the code segment outside 64-bit mode
    /// @param cpl   the privilege level
    /// @param lstar the guest's IA32_LSTAR: where its kernel's system calls enter
    /// @param instructions retired here since the sample before
    void sampled(long rip, int cpl, long lstar, long instructions);
}
