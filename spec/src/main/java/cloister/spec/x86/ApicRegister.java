package cloister.spec.x86;

/// The local APIC's registers and fields. An xAPIC register lies at its offset in the MMIO page; an x2APIC register is MSR
/// 0x800 + offset / 16. [SDM Vol. 3 "Advanced Programmable Interrupt Controller (APIC)"]
public final class ApicRegister {
    public static final int ID = 0x20;
    public static final int VERSION = 0x30;
    public static final int TPR = 0x80;
    public static final int APR = 0x90;
    public static final int PPR = 0xa0;
    public static final int EOI = 0xb0;
    public static final int RRD = 0xc0;
    public static final int LDR = 0xd0;
    public static final int DFR = 0xe0;
    public static final int SPIV = 0xf0;
    public static final int ISR = 0x100;
    public static final int TMR = 0x180;
    public static final int IRR = 0x200;
    public static final int ESR = 0x280;
    public static final int LVT_CMCI = 0x2f0;
    public static final int ICR = 0x300;
    public static final int ICR2 = 0x310;
    public static final int LVT_TIMER = 0x320;
    public static final int LVT_THERMAL = 0x330;
    public static final int LVT_PMC = 0x340;
    public static final int LVT_LINT0 = 0x350;
    public static final int LVT_LINT1 = 0x360;
    public static final int LVT_ERROR = 0x370;
    public static final int TIMER_INITIAL_COUNT = 0x380;
    public static final int TIMER_CURRENT_COUNT = 0x390;
    public static final int TIMER_DIVIDE = 0x3e0;
    public static final int SELF_IPI = 0x3f0;

    public static final int SPIV_ENABLED = 1 << 8;
    public static final int SPIV_SUPPRESS_EOI_BROADCAST = 1 << 12;
    public static final int VERSION_DIRECTED_EOI = 1 << 24;

    public static final int LVT_MASKED = 1 << 16;
    public static final int LVT_TIMER_MODE = 3 << 17;
    public static final int LVT_TIMER_ONE_SHOT = 0;
    public static final int LVT_TIMER_PERIODIC = 1 << 17;
    public static final int LVT_TIMER_TSC_DEADLINE = 2 << 17;

    // Delivery modes, ICR, LVT and MSI bits 10:8
    public static final int FIXED = 0;
    public static final int LOWEST_PRIORITY = 1;
    public static final int SMI = 2;
    public static final int NMI = 4;
    public static final int INIT = 5;
    public static final int STARTUP = 6;
    public static final int EXTINT = 7;

    public static final int ICR_LOGICAL = 1 << 11;
    public static final int ICR_BUSY = 1 << 12;
    public static final int ICR_ASSERT = 1 << 14;
    public static final int ICR_LEVEL = 1 << 15;

    public static final int BASE_MSR_BSP = 1 << 8;
    public static final int BASE_MSR_X2APIC = 1 << 10;
    public static final int BASE_MSR_ENABLED = 1 << 11;
    public static final long DEFAULT_BASE = 0xfee0_0000L;

    private ApicRegister() {
    }
}
