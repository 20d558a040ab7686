package cloister.tdx.exits;

import static cloister.spec.x86.Msr.*;

import cloister.spec.vmx.VmcsField;
import cloister.tdx.core.LpState;
import cloister.tdx.core.ModuleHalt;
import cloister.tdx.core.PlatformCheck;
import cloister.tdx.core.TdMsr;
import cloister.tdx.core.Tdcs;
import cloister.tdx.exits.MsrExit.Outcome;
import java.util.Locale;

/// The MSRs that the module reads for a TD. [TDX-BASE "MSR Handling"]
final class RdmsrExit {
    private static final long UNCORE_PMI = 1 << 13;
    private static final long PERFMON_AVAILABLE = 1 << 7;
    private static final long PEBS_UNAVAILABLE = 1 << 12;
    private static final long PEBS_OUTPUT_PT = 1 << 16;

    private RdmsrExit() {
    }

    static Outcome read(LpState lp, int msr) {
        var tdcs = lp.tdcs;
        boolean perfmon = tdcs.hasAttribute(Tdcs.PERFMON);
        switch (msr) {
            case IA32_DEBUGCTL -> result(lp, lp.vmcs.read(VmcsField.GUEST_DEBUGCTL) & ~UNCORE_PMI);
            case IA32_MISC_ENABLE -> {
                requireExit(!perfmon, msr);
                result(lp, (lp.cpu.rdmsr(IA32_MISC_ENABLE) & ~PERFMON_AVAILABLE) | PEBS_UNAVAILABLE);
            }
            case IA32_PERF_CAPABILITIES -> {
                requireExit(!perfmon || !tdcs.xfam(8), msr);
                result(lp, perfmon ? lp.module.config.perfCapabilities & ~PEBS_OUTPUT_PT : 0);
            }
            case IA32_ARCH_CAPABILITIES -> result(lp, tdcs.u64(Tdcs.VIRT_ARCH_CAPABILITIES));
            case IA32_XAPIC_DISABLE_STATUS -> result(lp, 1);
            case TdMsr.X2APIC_ID -> {
                if (!tdcs.tdCtl(Tdcs.ENUM_TOPOLOGY)) {
                    return Outcome.VE;
                }
                result(lp, tdcs.u32(Tdcs.X2APIC_IDS + 4 * lp.vcpu.index()) & 0xffff_ffffL);
            }
            default -> {
                int offset = virtualVmx(msr);
                if (offset < 0) {
                    return MsrExit.byTable(lp, msr, false);
                }
                result(lp, tdcs.u64(offset));
            }
        }
        return Outcome.DONE;
    }

    private static void requireExit(boolean expected, int msr) {
        if (!expected) {
            throw new ModuleHalt(String.format(Locale.ROOT, "unexpected exit for MSR 0x%x", msr));
        }
    }

    private static void result(LpState lp, long value) {
        lp.vcpu.gpr(LpState.RAX, value & 0xffff_ffffL);
        lp.vcpu.gpr(LpState.RDX, value >>> 32);
    }

    private static int virtualVmx(int msr) {
        return switch (msr) {
            case PlatformCheck.VMX_BASIC -> Tdcs.VIRT_VMX_BASIC;
            case PlatformCheck.VMX_TRUE_PINBASED_CTLS -> Tdcs.VIRT_VMX_TRUE_PINBASED_CTLS;
            case PlatformCheck.VMX_TRUE_PROCBASED_CTLS -> Tdcs.VIRT_VMX_TRUE_PROCBASED_CTLS;
            case PlatformCheck.VMX_PROCBASED_CTLS2 -> Tdcs.VIRT_VMX_PROCBASED_CTLS2;
            case PlatformCheck.VMX_PROCBASED_CTLS3 -> Tdcs.VIRT_VMX_PROCBASED_CTLS3;
            case PlatformCheck.VMX_TRUE_EXIT_CTLS -> Tdcs.VIRT_VMX_TRUE_EXIT_CTLS;
            case PlatformCheck.VMX_TRUE_ENTRY_CTLS -> Tdcs.VIRT_VMX_TRUE_ENTRY_CTLS;
            case PlatformCheck.VMX_MISC -> Tdcs.VIRT_VMX_MISC;
            case PlatformCheck.VMX_EPT_VPID_CAP -> Tdcs.VIRT_VMX_EPT_VPID_CAP;
            case PlatformCheck.VMX_CR0_FIXED0 -> Tdcs.VIRT_VMX_CR0_FIXED0;
            case PlatformCheck.VMX_CR0_FIXED1 -> Tdcs.VIRT_VMX_CR0_FIXED1;
            case PlatformCheck.VMX_CR4_FIXED0 -> Tdcs.VIRT_VMX_CR4_FIXED0;
            case PlatformCheck.VMX_CR4_FIXED1 -> Tdcs.VIRT_VMX_CR4_FIXED1;
            case IA32_VMX_VMFUNC -> Tdcs.VIRT_VMX_VMFUNC;
            default -> -1;
        };
    }
}
