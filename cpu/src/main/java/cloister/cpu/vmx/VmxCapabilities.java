package cloister.cpu.vmx;

import cloister.spec.x86.Cr4;
import cloister.spec.x86.Msr;

/// The VMX capability MSRs, 480H-492H: what VM entry accepts. [SDM Vol. 3 "VMX Capability Reporting Facility"]
///
/// They promise what the TDX module insists on. Of that, what has no effect in this model is accepted (PASID translation,
/// concealing VMX from PT, bus-lock detection, notification windows, architectural LBR: the features behind them are absent or
/// never trigger); what would have one is refused at VM entry by [EntryChecks].
public final class VmxCapabilities {
    static final int PIN_DEFAULT1 = 0x16;
    static final int PIN_ALLOWED1 = 0xff;
    static final int PROC_DEFAULT1 = 0x0401e172;
    static final int PROC_TRUE_DEFAULT1 = 0x04006172;
    static final int PROC_ALLOWED1 = 0xfffbfffe;
    static final int PROC2_ALLOWED1 = 0xdf7dbfff;
    static final long PROC3_ALLOWED1 = 0xae;
    static final int EXIT_DEFAULT1 = 0x00036dff;
    static final int EXIT_TRUE_DEFAULT1 = 0x00036dfb;
    static final int EXIT_ALLOWED1 = 0x5f7fffff;
    static final int ENTRY_DEFAULT1 = 0x000011ff;
    static final int ENTRY_TRUE_DEFAULT1 = 0x000011fb;
    static final int ENTRY_ALLOWED1 = 0x007ef3ff;
    /// Bits of CR0 and CR4 that must be 1, and those that may be, in VMX operation.
    public static final long CR0_FIXED0 = 0x8000_0021L;
    public static final long CR0_FIXED1 = 0xffff_ffffL;
    public static final long CR4_FIXED0 = Cr4.VMXE;
    /// Bits 0-12, VMXE, and the rest of what CPUID enumerates.
    public static final long CR4_FIXED1 = 0x1fff | Cr4.VMXE | Cr4.FSGSBASE | Cr4.PCIDE | Cr4.OSXSAVE | Cr4.SMEP | Cr4.SMAP
            | Cr4.PKE | Cr4.CET | Cr4.PKS | Cr4.SMXE;
    /// Revision, region size 2048, write-back, INS/OUTS information, TRUE control MSRs, injection with or without an error code.
    static final long BASIC = Vmcs.REVISION | (0x800L << 32) | (6L << 50) | (1L << 54) | (1L << 55) | (1L << 56);
    /// Timer rate, LMA stored into the entry controls, all activity states, PT, 4 CR3 targets, any field writable,
    /// zero-length injection.
    static final long MISC = BoundaryEvents.PREEMPTION_TIMER_RATE | (1 << 5) | (7 << 6) | (1 << 14) | (4 << 16) | (1 << 29) | (1 << 30);
    /// Execute-only; 4 and 5 levels; UC and WB; 2 MiB and 1 GiB pages; INVEPT single and all; A/D flags; INVVPID, all types.
    static final long EPT_VPID = 1 | (1 << 6) | (1 << 7) | (1 << 8) | (1 << 14) | (1 << 16) | (1 << 17) | (1 << 20) | (1 << 21)
            | (1 << 25) | (1 << 26)
            | (1L << 32) | (0xfL << 40);
    /// Highest index of a field encoding, in bits 9:1.
    static final long VMCS_ENUM = 0x4c;

    private VmxCapabilities() {
    }

    /// Whether `msr` is one of these MSRs.
    public static boolean handles(int msr) {
        return msr >= Msr.IA32_VMX_BASIC && msr <= Msr.IA32_VMX_BASIC + 0x12;
    }

    /// The value of `msr`, one that [#handles] accepts.
    public static long read(int msr) {
        return switch (msr - Msr.IA32_VMX_BASIC) {
            case 0x0 -> BASIC;
            case 0x1, 0xd -> controls(PIN_DEFAULT1, PIN_ALLOWED1);
            case 0x2 -> controls(PROC_DEFAULT1, PROC_ALLOWED1);
            case 0x3 -> controls(EXIT_DEFAULT1, EXIT_ALLOWED1);
            case 0x4 -> controls(ENTRY_DEFAULT1, ENTRY_ALLOWED1);
            case 0x5 -> MISC;
            case 0x6 -> CR0_FIXED0;
            case 0x7 -> CR0_FIXED1;
            case 0x8 -> CR4_FIXED0;
            case 0x9 -> CR4_FIXED1;
            case 0xa -> VMCS_ENUM;
            case 0xb -> controls(0, PROC2_ALLOWED1);
            case 0xc -> EPT_VPID;
            case 0xe -> controls(PROC_TRUE_DEFAULT1, PROC_ALLOWED1);
            case 0xf -> controls(EXIT_TRUE_DEFAULT1, EXIT_ALLOWED1);
            case 0x10 -> controls(ENTRY_TRUE_DEFAULT1, ENTRY_ALLOWED1);
            case 0x11 -> 0;
            case 0x12 -> PROC3_ALLOWED1;
            default -> throw new IllegalArgumentException("no VMX capability MSR: " + Integer.toHexString(msr));
        };
    }

    private static long controls(int mustBe1, int mayBe1) {
        return (mustBe1 & 0xffff_ffffL) | ((long) mayBe1 << 32);
    }
}
