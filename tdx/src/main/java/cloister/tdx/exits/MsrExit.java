package cloister.tdx.exits;

import static cloister.spec.x86.Msr.*;

import cloister.spec.tdx.MsrTable;
import cloister.spec.vmx.VmcsField;
import cloister.tdx.core.LpState;
import cloister.tdx.core.ModuleHalt;
import cloister.tdx.core.PlatformCheck;
import cloister.tdx.core.TdMsr;
import cloister.tdx.core.Tdcs;
import cloister.tdx.core.Tdvps;

/// RDMSR and WRMSR of a TD that exit. [TDX-BASE "MSR Handling"]
public final class MsrExit {
    public enum Outcome { DONE, GP, VE }

    private static final int LOW_MSRS = 0x2000;
    private static final int HIGH_MSRS = 0xc000_0000;
    private static final long DEBUGCTL_RESERVED = ~0xffc7L;
    private static final long TR = 1 << 6;
    private static final long BTS = 1 << 7;
    private static final long UNCORE_PMI = 1 << 13;
    private static final long FREEZE_WHILE_SMM = 1 << 14;
    private static final long RTM_DEBUG = 1 << 15;
    private static final long BTF = 1 << 1;
    private static final long TF = 1 << 8;
    private static final long PENDING_BS = 1 << 14;
    private static final long EFER_LMA = 1 << 10;
    private static final long PERFMON_AVAILABLE = 1 << 7;
    private static final long PEBS_UNAVAILABLE = 1 << 12;
    private static final long PEBS_OUTPUT_PT = 1 << 16;
    private static final int TME_EXCLUDE_MASK = 0x983;
    private static final int TME_EXCLUDE_BASE = 0x984;
    private static final int PLATFORM_DCA_CAP = 0x1f8;
    private static final int CPU_DCA_CAP = 0x1f9;
    private static final int DCA_0_CAP = 0x1fa;

    private MsrExit() {
    }

    private static boolean isInBitmaps(int msr) {
        return msr >= 0 && msr < LOW_MSRS || msr >= HIGH_MSRS && msr < HIGH_MSRS + LOW_MSRS;
    }

    public static Outcome write(LpState lp) {
        int msr = (int) lp.vcpu.gpr(LpState.RCX);
        if (!isInBitmaps(msr)) {
            return Outcome.VE;
        }
        long value = lp.vcpu.gpr(LpState.RDX) << 32 | lp.vcpu.gpr(LpState.RAX) & 0xffff_ffffL;
        return switch (msr) {
            case IA32_XSS -> writeXss(lp, value);
            case IA32_DEBUGCTL -> writeDebugctl(lp, value);
            case IA32_EFER -> writeEfer(lp, value);
            default -> byTable(lp, msr, true);
        };
    }

    private static Outcome writeXss(LpState lp, long value) {
        if ((value & ~(lp.module.config.xssSupported & lp.vcpu.xfam())) != 0) {
            return Outcome.GP;
        }
        lp.cpu.wrmsr(IA32_XSS, value);
        lp.vcpu.u64(Tdvps.XSS, value);
        return Outcome.DONE;
    }

    private static Outcome writeDebugctl(LpState lp, long asked) {
        long old = lp.vmcs.read(VmcsField.GUEST_DEBUGCTL);
        if ((asked & DEBUGCTL_RESERVED) != 0) {
            return Outcome.GP;
        }
        if ((asked & (TR | BTS)) == TR) {
            return Outcome.VE;
        }
        long value = asked & ~UNCORE_PMI | old & UNCORE_PMI;
        if ((value & FREEZE_WHILE_SMM) != 0 && !lp.tdcs.hasAttribute(Tdcs.PERFMON)
                || (value & RTM_DEBUG) != 0 && !lp.tdcs.cpuidFlag(Tdcs.TSX)) {
            return Outcome.GP;
        }
        lp.vmcs.write(VmcsField.GUEST_DEBUGCTL, value);
        if ((lp.vmcs.read(VmcsField.GUEST_RFLAGS) & TF) != 0 && ((value ^ old) & BTF) != 0) {
            long pending = lp.vmcs.read(VmcsField.GUEST_PENDING_DEBUG_EXCEPTIONS) & ~PENDING_BS;
            lp.vmcs.write(VmcsField.GUEST_PENDING_DEBUG_EXCEPTIONS, pending | ((old & BTF) != 0 ? PENDING_BS : 0));
        }
        return Outcome.DONE;
    }

    private static Outcome writeEfer(LpState lp, long asked) {
        long old = lp.vmcs.read(VmcsField.GUEST_EFER);
        long value = asked & ~EFER_LMA | old & EFER_LMA;
        if (((old ^ value) & ~1L) != 0) { // Only SCE may change.
            return Outcome.VE;
        }
        lp.vmcs.write(VmcsField.GUEST_EFER, value);
        return Outcome.DONE;
    }

    public static Outcome read(LpState lp) {
        int msr = (int) lp.vcpu.gpr(LpState.RCX);
        if (!isInBitmaps(msr)) {
            return Outcome.VE;
        }
        var tdcs = lp.tdcs;
        boolean perfmon = tdcs.hasAttribute(Tdcs.PERFMON);
        switch (msr) {
            case IA32_DEBUGCTL -> result(lp, lp.vmcs.read(VmcsField.GUEST_DEBUGCTL) & ~UNCORE_PMI);
            case IA32_MISC_ENABLE -> {
                requireExit(!perfmon, msr);
                result(lp, lp.cpu.rdmsr(IA32_MISC_ENABLE) & ~PERFMON_AVAILABLE | PEBS_UNAVAILABLE);
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
                    return byTable(lp, msr, false);
                }
                result(lp, tdcs.u64(offset));
            }
        }
        return Outcome.DONE;
    }

    private static void requireExit(boolean expected, int msr) {
        if (!expected) {
            throw new ModuleHalt(String.format("unexpected exit for MSR 0x%x", msr));
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

    private static Outcome byTable(LpState lp, int msr, boolean write) {
        var row = MsrTable.find(msr);
        if (row == null) {
            return Outcome.VE;
        }
        var bit = write ? row.writeBit() : row.readBit();
        if (MsrAccess.isNative(lp.module.config, lp.tdcs, bit, msr)) {
            throw new ModuleHalt(String.format("exit for MSR 0x%x, which is native", msr));
        }
        return switch (write ? row.writeAction() : row.readAction()) {
            case VE -> Outcome.VE;
            case GP -> Outcome.GP;
            case GP_OR_VE -> isEnumerated(lp.tdcs, msr) ? Outcome.VE : Outcome.GP;
            default -> throw new ModuleHalt(String.format("no action for MSR 0x%x", msr));
        };
    }

    /// Whether the TD's CPUID shows the feature that the MSR belongs to.
    private static boolean isEnumerated(Tdcs tdcs, int msr) {
        return tdcs.cpuidFlag(switch (msr) {
            case PLATFORM_DCA_CAP, CPU_DCA_CAP, DCA_0_CAP -> Tdcs.DCA;
            case IA32_TME_CAPABILITY, IA32_TME_ACTIVATE, TME_EXCLUDE_MASK, TME_EXCLUDE_BASE -> Tdcs.TME;
            case IA32_MKTME_KEYID_PARTITIONING -> Tdcs.PCONFIG;
            case IA32_TSC_DEADLINE -> Tdcs.TSC_DEADLINE;
            default -> throw new ModuleHalt(String.format("no feature for MSR 0x%x", msr));
        });
    }
}
