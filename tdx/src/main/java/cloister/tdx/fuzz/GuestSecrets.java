package cloister.tdx.fuzz;

import static cloister.tdx.fuzz.FuzzFinding.check;

import cloister.spec.tdx.HostState;
import cloister.spec.tdx.TdxStatus;
import cloister.spec.x86.Msr;
import cloister.tdx.core.Tdcs;
import java.util.HashMap;
import java.util.Map;

/// State of guests and of the VMM that the module switches itself: the guest's does not stay on the LP, each comes back.
final class GuestSecrets {
    private static final long SECRET = 0x5ec2_e700_0000_0000L;
    private static final int FIXED_CTR_CTRL = 0x38d;
    /// MSRs that a guest writes without exit and that a TD exit brings to a fixed value.
    private static final int[] SCRUBBED = {Msr.IA32_STAR, Msr.IA32_LSTAR, Msr.IA32_KERNEL_GS_BASE, Msr.IA32_TSC_AUX};
    /// MSRs of the VMM that a TD exit brings back, the last one unless the TD has performance monitoring.
    private static final int[] PRESERVED = {Msr.IA32_DS_AREA, Msr.IA32_SPEC_CTRL, FIXED_CTR_CTRL};

    /// What a guest had when it left.
    private record Left(long[] msrs, long dr0, boolean debug, boolean perfmon) {
    }

    private final FuzzMachine machine;
    /// By TDVPR page.
    private final Map<Long, Left> left = new HashMap<>();
    private final long[][] ofVmm = new long[FuzzPlatform.LPS][PRESERVED.length];
    private final long[] tdvpr = new long[FuzzPlatform.LPS];
    private final Left[] leaving = new Left[FuzzPlatform.LPS];
    private long counter;

    GuestSecrets(FuzzMachine machine) {
        this.machine = machine;
    }

    void clear() {
        left.clear();
    }

    void beforeCall(int lp) {
        for (int i = 0; i < PRESERVED.length; i++) {
            ofVmm[lp][i] = machine.cpus[lp].rdmsr(PRESERVED[i]);
        }
    }

    /// After a SEAMCALL: an entered guest has what it had.
    void afterCall(FuzzStep step, int lp) {
        switch (step.leaf()) {
            case VP_INIT, VP_WR, PHYMEM_PAGE_RECLAIM -> left.remove(step.operands[1]);
            case null, default -> {
            }
        }
        var state = machine.lp(lp);
        if (!machine.inGuest[lp]) {
            return;
        }
        tdvpr[lp] = state.vcpu.tdvprPa;
        var known = left.get(tdvpr[lp]);
        if (known == null || known.debug) {
            return;
        }
        for (int i = 0; i < SCRUBBED.length; i++) {
            check(machine.cpus[lp].rdmsr(SCRUBBED[i]) == known.msrs[i], "a guest on LP %d enters with 0x%x in MSR 0x%x, it left with 0x%x",
                    lp, machine.cpus[lp].rdmsr(SCRUBBED[i]), SCRUBBED[i], known.msrs[i]);
        }
        check(machine.cpus[lp].debugRegister(0) == known.dr0, "a guest on LP %d enters with another DR0", lp);
    }

    /// The guest has secrets when it exits.
    void beforeExit(int lp) {
        var cpu = machine.cpus[lp];
        var msrs = new long[SCRUBBED.length];
        for (int i = 0; i < SCRUBBED.length; i++) {
            msrs[i] = SCRUBBED[i] == Msr.IA32_TSC_AUX ? counter & 0xffff_ffffL : SECRET | (counter << 8) | i;
            cpu.msr(SCRUBBED[i], msrs[i]);
        }
        counter++;
        cpu.msr(Msr.IA32_FMASK, counter);
        cpu.cr2(SECRET | counter);
        cpu.debugRegister(0, SECRET | counter);
        cpu.debugRegister(3, SECRET | counter);
        cpu.xmm(2, SECRET | counter, SECRET);
        leaving[lp] = new Left(msrs, SECRET | counter, machine.lp(lp).tdcs.debug(),
                machine.lp(lp).tdcs.hasAttribute(Tdcs.PERFMON));
        tdvpr[lp] = machine.lp(lp).vcpu.tdvprPa;
    }

    /// A TD exit: the LP is the VMM's again.
    void afterExit(int lp, TdxStatus status) {
        var cpu = machine.cpus[lp];
        for (int msr : SCRUBBED) {
            check(cpu.rdmsr(msr) == 0, "MSR 0x%x is the guest's after a TD exit: 0x%x", msr, cpu.rdmsr(msr));
        }
        check(cpu.rdmsr(Msr.IA32_FMASK) == HostState.FMASK, "IA32_FMASK is 0x%x after a TD exit", cpu.rdmsr(Msr.IA32_FMASK));
        int preserved = leaving[lp].perfmon ? PRESERVED.length - 1 : PRESERVED.length;
        for (int i = 0; i < preserved; i++) {
            check(cpu.rdmsr(PRESERVED[i]) == ofVmm[lp][i], "MSR 0x%x of the VMM is 0x%x after a TD exit, it was 0x%x", PRESERVED[i],
                    cpu.rdmsr(PRESERVED[i]), ofVmm[lp][i]);
        }
        if (status == TdxStatus.SUCCESS || status == TdxStatus.HOST_PRIORITY_BUSY_TIMEOUT || status == TdxStatus.CROSS_TD_TRAP) {
            left.put(tdvpr[lp], leaving[lp]);
        } else {
            left.remove(tdvpr[lp]);
        }
    }
}
