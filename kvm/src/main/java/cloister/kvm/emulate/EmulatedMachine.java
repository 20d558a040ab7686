package cloister.kvm.emulate;

import cloister.cpu.emulation.EmulatedProcessor;
import cloister.cpu.emulation.MemoryAndPorts.Access;
import cloister.cpu.emulation.MemoryAndPorts.Right;
import cloister.cpu.emulation.SystemOperations;
import cloister.kvm.KvmRun;

/// What the emulator sees of a vCPU: registers, memory and the local APIC's page. [LINUX struct x86_emulate_ops]
public interface EmulatedMachine extends SystemOperations {
    /// Loads all registers but those of [#loadFpu].
    void load(EmulatedProcessor processor);

    /// Takes the registers back that instructions change, except for those that [SystemOperations] have changed.
    void store(EmulatedProcessor processor);

    /// Takes over that an instruction is done: the blocking of interrupts that it has ended or begun, and the trap of single-stepping.
    ///
    /// @param traps whether RFLAGS.TF was set when it began
    void retired(EmulatedProcessor processor, boolean traps);

    /// Takes over what a task switch has changed beside segments and general registers.
    void taskSwitched(EmulatedProcessor processor);

    /// Loads the x87, MMX and SSE registers.
    void loadFpu(EmulatedProcessor processor);

    /// Takes them back.
    void storeFpu(EmulatedProcessor processor);

    /// The guest-physical address of `linear`, by the guest's page tables with their permissions; sets their accessed and dirty flags.
    ///
    /// @return a negative number for a page fault, its low 32 bits the error code
    long translate(EmulatedProcessor processor, long linear, Access access, Right right);

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

    /// Where data of exits goes.
    KvmRun run();

    /// IA32_U_CET or IA32_S_CET.
    long controlFlow(boolean user);

    /// Makes the guest take an exception instead of the instruction.
    ///
    /// @param address the linear address of a page fault, the bits for DR6 of a debug exception
    void raise(int vector, int errorCode, long address);

    /// The data of an exit with KVM_INTERNAL_ERROR_EMULATION.
    ///
    /// @param code the bytes of the instruction as far as they could be had
    long[] failureData(byte[] code);
}
