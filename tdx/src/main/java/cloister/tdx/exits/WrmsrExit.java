package cloister.tdx.exits;

import static cloister.spec.x86.Msr.IA32_DEBUGCTL;
import static cloister.spec.x86.Msr.IA32_EFER;
import static cloister.spec.x86.Msr.IA32_XSS;

import cloister.spec.vmx.VmcsField;
import cloister.tdx.core.LpState;
import cloister.tdx.core.Tdcs;
import cloister.tdx.core.Tdvps;
import cloister.tdx.exits.MsrExit.Outcome;

/// The MSRs that the module writes for a TD. [TDX-BASE "MSR Handling"]
final class WrmsrExit {
    private static final long DEBUGCTL_RESERVED = ~0xffc7L;
    private static final long TR = 1 << 6;
    private static final long BTS = 1 << 7;
    private static final long UNCORE_PMI = 1 << 13;
    private static final long FREEZE_WHILE_SMM = 1 << 14;
    private static final long RTM_DEBUG = 1 << 15;
    private static final long EFER_SCE = 1;
    private static final long EFER_LMA = 1 << 10;

    private WrmsrExit() {
    }

    static Outcome write(LpState lp, int msr) {
        long value = (lp.vcpu.gpr(LpState.RDX) << 32) | (lp.vcpu.gpr(LpState.RAX) & 0xffff_ffffL);
        return switch (msr) {
            case IA32_XSS -> writeXss(lp, value);
            case IA32_DEBUGCTL -> writeDebugctl(lp, value);
            case IA32_EFER -> writeEfer(lp, value);
            default -> MsrExit.byTable(lp, msr, true);
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
        long value = (asked & ~UNCORE_PMI) | (old & UNCORE_PMI);
        if (((value & FREEZE_WHILE_SMM) != 0 && !lp.tdcs.hasAttribute(Tdcs.PERFMON))
                || ((value & RTM_DEBUG) != 0 && !lp.tdcs.cpuidFlag(Tdcs.TSX))) {
            return Outcome.GP;
        }
        lp.vmcs.write(VmcsField.GUEST_DEBUGCTL, value);
        return Outcome.DONE;
    }

    private static Outcome writeEfer(LpState lp, long asked) {
        long old = lp.vmcs.read(VmcsField.GUEST_EFER);
        long value = (asked & ~EFER_LMA) | (old & EFER_LMA);
        if (((old ^ value) & ~EFER_SCE) != 0) {
            return Outcome.VE;
        }
        lp.vmcs.write(VmcsField.GUEST_EFER, value);
        return Outcome.DONE;
    }
}
