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

    /// Reads the part of an operand that lies on this page, where the operand crosses pages: byte by byte.
    ///
    /// @param bytes 1 to 7
    default long readPart(Cpu cpu, long linear, long hpa, int bytes) {
        long value = 0;
        for (int i = 0; i < bytes; i++) {
            value |= read(cpu, linear + i, hpa + i, 1) << (8 * i);
        }
        return value;
    }

    /// Writes such a part.
    ///
    /// @param value the part in the low bytes; those above are undefined
    default void writePart(Cpu cpu, long linear, long hpa, int bytes, long value) {
        for (int i = 0; i < bytes; i++) {
            write(cpu, linear + i, hpa + i, 1, (value >>> (8 * i)) & 0xff);
        }
    }
}
