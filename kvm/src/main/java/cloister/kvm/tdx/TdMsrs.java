package cloister.kvm.tdx;

import cloister.kvm.vcpu.GuestMsrs;
import cloister.spec.x86.ApicRegister;
import cloister.spec.x86.Msr;

/// Which MSRs KVM emulates for a TD that asks by TDVMCALL. [LINUX tdx_has_emulated_msr]
final class TdMsrs {
    private static final int MCG_EXT_CTL = 0x4d0;
    private static final int MTRR_FIX4K_LAST = 0x26f;

    private TdMsrs() {
    }

    static boolean isEmulated(int msr) {
        if (msr >= Msr.IA32_X2APIC_FIRST && msr <= Msr.IA32_X2APIC_LAST) {
            return isEmulatedX2apic((msr - Msr.IA32_X2APIC_FIRST) << 4);
        }
        if ((msr >= Msr.IA32_MTRR_PHYSBASE0 && msr <= MTRR_FIX4K_LAST)
                || (msr >= Msr.IA32_MC0_CTL && msr < Msr.IA32_MC0_CTL + 4 * GuestMsrs.MC_BANKS)
                || (msr >= Msr.IA32_MC0_CTL2 && msr < Msr.IA32_MC0_CTL2 + GuestMsrs.MC_BANKS)) {
            return true;
        }
        return switch (msr) {
            case Msr.IA32_BIOS_SIGN_ID, Msr.IA32_ARCH_CAPABILITIES, GuestMsrs.IA32_POWER_CTL, Msr.IA32_PAT,
                 Msr.IA32_MTRRCAP, Msr.IA32_MTRR_DEF_TYPE, Msr.IA32_TSC_DEADLINE, Msr.IA32_MISC_ENABLE,
                 Msr.MSR_PLATFORM_INFO, Msr.MISC_FEATURE_ENABLES, Msr.IA32_APIC_BASE, Msr.IA32_EFER,
                 Msr.IA32_FEATURE_CONTROL, Msr.IA32_MCG_CAP, Msr.IA32_MCG_STATUS, Msr.IA32_MCG_CTL, MCG_EXT_CTL,
                 GuestMsrs.KVM_POLL_CONTROL -> true;
            default -> false;
        };
    }

    private static boolean isEmulatedX2apic(int register) {
        return switch (register) {
            case ApicRegister.ID, ApicRegister.VERSION, ApicRegister.LDR, ApicRegister.SPIV, ApicRegister.ESR,
                 ApicRegister.LVT_CMCI, ApicRegister.ICR, ApicRegister.LVT_TIMER, ApicRegister.LVT_THERMAL,
                 ApicRegister.LVT_PMC, ApicRegister.LVT_LINT0, ApicRegister.LVT_LINT1, ApicRegister.LVT_ERROR,
                 ApicRegister.TIMER_INITIAL_COUNT, ApicRegister.TIMER_CURRENT_COUNT, ApicRegister.TIMER_DIVIDE -> true;
            default -> false;
        };
    }

    static boolean isReadOnly(int msr) {
        return msr == Msr.IA32_APIC_BASE || msr == Msr.IA32_EFER || msr == Msr.IA32_FEATURE_CONTROL;
    }
}
