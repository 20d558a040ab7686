package cloister.tdx.exits;

import static cloister.spec.x86.Msr.*;

import cloister.spec.tdx.MsrTable;
import cloister.tdx.core.LpState;
import cloister.tdx.core.ModuleHalt;
import cloister.tdx.core.MsrAccess;
import cloister.tdx.core.Tdcs;
import java.util.Locale;

/// RDMSR and WRMSR of a TD that exit: emulated, or #GP or #VE as the table says. [TDX-BASE "MSR Handling"]
final class MsrExit {
    enum Outcome { DONE, GP, VE }

    private static final int LOW_MSRS = 0x2000;
    private static final int HIGH_MSRS = 0xc000_0000;
    private static final int TME_EXCLUDE_MASK = 0x983;
    private static final int TME_EXCLUDE_BASE = 0x984;
    private static final int PLATFORM_DCA_CAP = 0x1f8;
    private static final int CPU_DCA_CAP = 0x1f9;
    private static final int DCA_0_CAP = 0x1fa;

    private MsrExit() {
    }

    static void read(VmExit exit) {
        int msr = (int) exit.lp.vcpu.gpr(LpState.RCX);
        finish(exit, isInBitmaps(msr) ? RdmsrExit.read(exit.lp, msr) : Outcome.VE);
    }

    static void write(VmExit exit) {
        int msr = (int) exit.lp.vcpu.gpr(LpState.RCX);
        finish(exit, isInBitmaps(msr) ? WrmsrExit.write(exit.lp, msr) : Outcome.VE);
    }

    private static boolean isInBitmaps(int msr) {
        return (msr >= 0 && msr < LOW_MSRS) || (msr >= HIGH_MSRS && msr < HIGH_MSRS + LOW_MSRS);
    }

    private static void finish(VmExit exit, Outcome outcome) {
        switch (outcome) {
            case DONE -> {
            }
            case GP -> Inject.gp(exit.lp);
            case VE -> Inject.ve(exit.lp, exit.reason, 0, 0, 0);
        }
    }

    /// What the table says of an MSR that the module does not emulate.
    static Outcome byTable(LpState lp, int msr, boolean write) {
        var row = MsrTable.find(msr);
        if (row == null) {
            return Outcome.VE;
        }
        var bit = write ? row.writeBit() : row.readBit();
        if (MsrAccess.isNative(lp.module.config, lp.tdcs, bit, msr)) {
            throw new ModuleHalt(String.format(Locale.ROOT, "exit for MSR 0x%x, which is native", msr));
        }
        return switch (write ? row.writeAction() : row.readAction()) {
            case VE -> Outcome.VE;
            case GP -> Outcome.GP;
            case GP_OR_VE -> isEnumerated(lp.tdcs, msr) ? Outcome.VE : Outcome.GP;
            default -> throw new ModuleHalt(String.format(Locale.ROOT, "no action for MSR 0x%x", msr));
        };
    }

    /// Whether the TD's CPUID shows the feature that the MSR belongs to.
    private static boolean isEnumerated(Tdcs tdcs, int msr) {
        return tdcs.cpuidFlag(switch (msr) {
            case PLATFORM_DCA_CAP, CPU_DCA_CAP, DCA_0_CAP -> Tdcs.DCA;
            case IA32_TME_CAPABILITY, IA32_TME_ACTIVATE, TME_EXCLUDE_MASK, TME_EXCLUDE_BASE -> Tdcs.TME;
            case IA32_MKTME_KEYID_PARTITIONING -> Tdcs.PCONFIG;
            case IA32_TSC_DEADLINE -> Tdcs.TSC_DEADLINE;
            default -> throw new ModuleHalt(String.format(Locale.ROOT, "no feature for MSR 0x%x", msr));
        });
    }
}
