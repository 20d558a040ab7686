package cloister.cpu.sys;

import cloister.cpu.core.Cpu;
import cloister.cpu.core.Translation;
import cloister.isa.Instruction;

/// What VMX non-root operation changes in the processor's behaviour: every place where it asks before it acts. `cpu.vmx`
/// implements it for guests; [#OUTSIDE] is the processor on its own, where nothing exits and guest-physical addresses are
/// physical ones.
///
/// A method that causes a VM exit has filled in the exit's fields and throws [cloister.cpu.core.VmExitSignal].
/// [SDM Vol. 3 "VMX Non-Root Operation"]
public interface NonRoot {
    /// The processor outside VMX non-root operation.
    NonRoot OUTSIDE = new NonRoot() {
    };

    /// Whether the processor is in VMX non-root operation.
    default boolean active() {
        return false;
    }

    // --- memory

    /// Whether guest-physical addresses are translated (EPT).
    default boolean secondLevelActive() {
        return false;
    }

    /// Translates the guest-physical address of a finished walk. `out` holds the guest's page size, its permission to write and
    /// whether the page is global; this sets [Translation#hpa], [Translation#direct] and [Translation#hook] and withdraws
    /// [Translation#writable] where the second level does not allow writing (or its dirty flag is clear). Throws for EPT
    /// violations and misconfigurations, and [cloister.cpu.core.GuestFault] #VE for convertible ones.
    ///
    /// @param access of [cloister.cpu.core.Walker]
    default void secondLevel(Cpu cpu, long gpa, long linear, int access, Translation out) {
        out.hpa = gpa;
        out.direct = true;
        out.hook = null;
    }

    /// Reads a paging-structure entry of 4 or 8 bytes for the walk of `linear`.
    default long readEntry(Cpu cpu, long gpa, long linear, int bytes) {
        return cpu.readPhysical(gpa, bytes);
    }

    /// Sets accessed and dirty flags in a paging-structure entry, one operation that fails when the entry is not `old` any more.
    default boolean changeEntry(Cpu cpu, long gpa, long linear, int bytes, long old, long value) {
        return cpu.compareAndSetPhysical(gpa, bytes, old, value);
    }

    // --- instructions; called after #UD and privilege checks, before operands in memory are touched

    /// Exits that the instruction alone decides (CPUID, HLT, INVLPG, RDTSC, PAUSE, XSETBV, descriptor tables, MOV DR, ...), and
    /// #UD where an "enable" control is 0 (RDTSCP, INVPCID, XSAVES, user wait and pause).
    default void intercept(Cpu cpu, Instruction insn) {
    }

    /// MOV from CR0, CR3, CR4 or CR8 to register `gpr`, and SMSW (`cr` 0, `gpr` -1): the value that the guest sees.
    default long readCr(Cpu cpu, int cr, int gpr) {
        return switch (cr) {
            case 0 -> cpu.cr0;
            case 3 -> cpu.cr3;
            case 4 -> cpu.cr4;
            default -> cpu.cr8;
        };
    }

    /// MOV to CR0, CR3 or CR4 from register `gpr`: the value to load, host-owned bits kept.
    default long writeCr(Cpu cpu, int cr, int gpr, long value) {
        return value;
    }

    /// MOV to CR8; `value` is legal.
    default void writeCr8(Cpu cpu, int gpr, long value) {
        cpu.cr8 = value;
    }

    /// CLTS: the CR0 to load.
    default long clts(Cpu cpu, long cr0WithoutTs) {
        return cr0WithoutTs;
    }

    /// LMSW: the CR0 to load.
    ///
    /// @param linear the address of the memory operand, 0 for a register
    default long lmsw(Cpu cpu, Instruction insn, long linear, int source, long cr0) {
        return cr0;
    }

    /// RDMSR, legality included.
    default long readMsr(Cpu cpu, int msr) {
        return cpu.msrs.read(msr);
    }

    /// WRMSR, legality included.
    default void writeMsr(Cpu cpu, int msr, long value) {
        cpu.msrs.write(msr, value);
    }

    /// The time-stamp counter as RDTSC, RDTSCP, TPAUSE and UMWAIT see it.
    default long tsc(Cpu cpu, long hostTsc) {
        return hostTsc;
    }

    /// IN, OUT, INS and OUTS after the I/O permission check; `linear` is the string's address (0 for IN and OUT).
    default void interceptIo(Cpu cpu, Instruction insn, int port, int bytes, boolean in, long linear) {
    }

    /// A port access that does not exit.
    default int portIn(Cpu cpu, int port, int bytes) {
        return cpu.io == null ? -1 : cpu.io.in(port, bytes);
    }

    /// A port access that does not exit.
    default void portOut(Cpu cpu, int port, int bytes, int value) {
        if (cpu.io != null) {
            cpu.io.out(port, bytes, value);
        }
    }

    /// A task switch to `selector`: unsupported in non-root operation, so it exits.
    ///
    /// @param source 0 CALL, 1 IRET, 2 JMP, 3 task gate in the IDT
    default void interceptTaskSwitch(Cpu cpu, int selector, int source) {
    }

    // --- events; [PendingEvents#vectoringInfo] tells what was being delivered

    /// An exception or NMI is about to be delivered: the exception bitmap.
    ///
    /// @param type    an interruption type of [cloister.spec.vmx.Interruption]
    /// @param address as in [cloister.cpu.core.GuestFault#address]: the linear address of #PF, the DR6 bits of #DB
    default void interceptException(Cpu cpu, int vector, int type, int errorCode, boolean hasErrorCode, long address) {
    }

    /// A triple fault. Returns outside non-root operation: the processor then shuts down.
    default void tripleFault(Cpu cpu) {
    }

    /// Instruction boundary, above debug traps: MTF exits.
    default void beforeTraps(Cpu cpu) {
    }

    /// Instruction boundary, between debug traps and NMIs: preemption timer, NMI window.
    default void beforeNmi(Cpu cpu) {
    }

    /// Instruction boundary, between NMIs and external interrupts: interrupt window, virtual interrupts (which it delivers through
    /// [EventDelivery#deliver]).
    ///
    /// @return whether it delivered an event
    default boolean beforeInterrupts(Cpu cpu) {
        return false;
    }

    /// An NMI is pending and not blocked.
    ///
    /// @return whether it is to be delivered through the IDT
    default boolean nmi(Cpu cpu) {
        return true;
    }

    /// An external interrupt waits in [PendingEvents]: exit, process it as a posted-interrupt notification, or neither.
    ///
    /// @return whether it is to be delivered through the IDT if RFLAGS.IF and the shadow allow
    default boolean externalInterrupt(Cpu cpu) {
        return true;
    }

    /// Whether setting RFLAGS.IF makes [#beforeInterrupts] act: interrupt window, pending virtual interrupt.
    default boolean waitsForInterruptFlag(Cpu cpu) {
        return false;
    }

    /// IRET is about to unblock NMIs. @return whether it unblocks real NMIs (else virtual ones, which this does)
    default boolean iretUnblocksNmi(Cpu cpu) {
        return true;
    }

    /// Whether [#beforeTraps] must be asked after every single instruction (monitor trap flag).
    default boolean singleSteps(Cpu cpu) {
        return false;
    }
}
