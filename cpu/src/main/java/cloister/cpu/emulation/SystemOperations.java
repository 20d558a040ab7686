package cloister.cpu.emulation;

import java.util.OptionalLong;

/// What an [EmulatedProcessor] leaves to the software that uses it, because the software keeps it itself: control registers, MSRs,
/// time and the like. They are asked behind the processor's own checks.
public interface SystemOperations {
    /// MOV to CR0, CR3, CR4 or CR8, LMSW and CLTS, with all their checks and consequences.
    ///
    /// @return false for #GP(0)
    boolean writeControl(int register, long value);

    /// XSETBV at CPL 0.
    ///
    /// @return false for #GP(0)
    boolean writeExtendedControl(int register, long value);

    /// RDMSR at CPL 0.
    ///
    /// @return empty for #GP(0)
    OptionalLong readMsr(int index);

    /// WRMSR at CPL 0.
    ///
    /// @return false for #GP(0)
    boolean writeMsr(int index, long value);

    /// DR0 to DR3, DR6 or DR7.
    long debugRegister(int number);

    /// Sets it; the value is legal.
    void debugRegister(int number, long value);

    /// CPUID: EAX, EBX, ECX, EDX into `out`.
    void cpuid(int leaf, int subleaf, int[] out);

    /// The guest's time-stamp counter.
    long tsc();

    /// HLT at CPL 0.
    void halt();

    /// IRET ends the blocking of NMIs.
    void unmaskNmis();

    /// INVLPG at CPL 0.
    void invalidatePage(long linear);
}
