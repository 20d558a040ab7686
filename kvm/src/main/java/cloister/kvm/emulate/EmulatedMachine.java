package cloister.kvm.emulate;

import cloister.isa.CodeMode;

/// What the emulator sees of a vCPU: registers, memory and the local APIC's page. [LINUX struct x86_emulate_ops]
public interface EmulatedMachine {
    /// What an access does.
    enum Access {
        READ, WRITE, FETCH
    }

    /// General register `number` (0 to 15).
    long gpr(int number);

    /// Sets it.
    void gpr(int number, long value);

    /// The address of the instruction, relative to CS.
    long rip();

    /// Goes on `length` bytes behind the instruction.
    void advance(int length);

    /// RFLAGS.
    long rflags();

    /// Sets them.
    void rflags(long value);

    /// The current privilege level.
    int cpl();

    /// The operand and address size of the code.
    CodeMode codeMode();

    /// The linear address of `bytes` bytes at `offset` in segment `number` (encoding order).
    ///
    /// @throws GuestException #GP or #SS when they are not canonical or beyond the segment, or the segment does not allow the access
    long linear(int number, long offset, int bytes, Access access);

    /// The guest-physical address of `linear`, by the guest's page tables with their permissions; sets their accessed and dirty flags.
    ///
    /// @throws GuestException #PF
    long translate(long linear, Access access);

    /// Whether `gpa` can be read as memory.
    boolean isMemory(long gpa);

    /// Whether `gpa` can be written as memory; a read-only slot cannot. [LINUX "KVM_MEM_READONLY"]
    boolean isWritable(long gpa);

    /// Reads memory: `bytes` (1 to 8) in one page.
    long readMemory(long gpa, int bytes);

    /// Writes memory.
    void writeMemory(long gpa, int bytes, long value);

    /// Whether `gpa` lies in the page of a local APIC in xAPIC mode.
    boolean isApic(long gpa);

    /// Reads the APIC register at `offset`.
    int readApic(int offset);

    /// Writes it.
    void writeApic(int offset, int value);

    /// Where data of MMIO exits goes: little-endian, from index 0.
    byte[] exitData();

    /// Makes the guest take `exception` instead of the instruction.
    void raise(GuestException exception);
}
