package cloister.kvm.emulate;

import cloister.isa.CodeMode;

/// What the emulator sees of a vCPU: registers, memory and the local APIC's page. [LINUX struct x86_emulate_ops]
public interface EmulatedMachine {
    /// [#translate] found nothing.
    long NO_TRANSLATION = -1;

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

    /// The operand and address size of the code.
    CodeMode codeMode();

    /// The base of segment `number` in encoding order; 0 where 64-bit mode ignores it.
    long segmentBase(int number);

    /// The guest-physical address of `linear`, or [#NO_TRANSLATION].
    long translate(long linear);

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
}
