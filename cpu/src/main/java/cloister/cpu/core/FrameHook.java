package cloister.cpu.core;

/// Answers accesses to a page that is not memory to the guest, such as the APIC-access page. May throw [GuestFault] or
/// [VmExitSignal]; the processor's `rip` is then the accessing instruction.
public interface FrameHook {
    /// @param hpa   as in [Translation#hpa], within one page
    /// @param bytes 1, 2, 4 or 8
    long read(Cpu cpu, long linear, long hpa, int bytes);

    /// @param hpa   as in [Translation#hpa], within one page
    /// @param bytes 1, 2, 4 or 8
    void write(Cpu cpu, long linear, long hpa, int bytes, long value);
}
