package cloister.tdx.exits;

import cloister.spec.vmx.ExitReason;
import cloister.spec.x86.Msr;
import cloister.tdx.core.HostContext;
import cloister.tdx.core.LpState;
import cloister.tdx.core.PlatformCheck;
import cloister.tdx.core.PlatformConfig;
import cloister.tdx.core.TdMsr;
import cloister.tdx.core.Tdcs;
import cloister.tdx.core.Tdvps;
import cloister.tdx.core.Transition;
import cloister.tdx.port.Processor;

/// Moves a VCPU's state that VMX does not switch between its TDVPS and the LP. [TDX-BASE "TD Entry and Exit"]
public final class GuestContext {
    private static final long TSX_DISABLE = 3;
    private static final int BIG_CORE = 0x40;
    private static final int XFAM_LBR = 15;
    private static final int EEQ_MSR_LOAD_FAILURE = 3;
    private static final int EEQ_XSTATE_LOAD_FAILURE = 4;

    private final LpState lp;
    private final Processor cpu;
    private final Tdcs tdcs;
    private final Tdvps vcpu;
    private final PlatformConfig config;

    public GuestContext(LpState lp) {
        this.lp = lp;
        this.cpu = lp.cpu;
        this.tdcs = lp.tdcs;
        this.vcpu = lp.vcpu;
        this.config = lp.module.config;
    }

    private void load(int msr, int offset) {
        write(msr, vcpu.u64(offset));
    }

    private void write(int msr, long value) {
        if (!cpu.wrmsr(msr, value)) {
            throw TdExit.async(lp, TdExit.NON_ACCESSIBLE, ExitReason.MSR_LOADING, 0, EEQ_MSR_LOAD_FAILURE | ((long) msr << 32), 0, 0);
        }
    }

    // To the LP

    public void load() {
        lp.host.takeSpecCtrl();
        cpu.cr2(vcpu.u64(Tdvps.CR2));
        for (int i = 0; i < 4; i++) {
            cpu.debugRegister(i, vcpu.u64(Tdvps.DR0 + 8 * i));
        }
        cpu.debugRegister(6, vcpu.u64(Tdvps.DR6));
        load(Msr.IA32_DS_AREA, Tdvps.DS_AREA);
        if (tdcs.xfam(XFAM_LBR)) {
            load(TdMsr.LBR_DEPTH, Tdvps.LBR_DEPTH);
        }
        if (tdcs.hasAttribute(Tdcs.PERFMON)) {
            loadPerformanceMonitoring();
        } else {
            takeInstructionCounter();
        }
        if (tdcs.cpuidFlag(Tdcs.WAITPKG)) {
            load(Msr.IA32_UMWAIT_CONTROL, Tdvps.UMWAIT_CONTROL);
        }
        if (tdcs.cpuidFlag(Tdcs.TSX)) {
            load(Msr.IA32_TSX_CTRL, Tdvps.TSX_CTRL);
        } else if ((config.archCapabilities & PlatformCheck.ARCH_CAP_TSX_CTRL) != 0) {
            long theirs = lp.host.takeTsxCtrl();
            if ((theirs & 1) == 0 || theirs >>> 2 != 0) {
                write(Msr.IA32_TSX_CTRL, TSX_DISABLE);
            }
        }
        load(TdMsr.UARCH_MISC_CTL, Tdvps.UARCH_MISC_CTL);
        load(Msr.IA32_TSC_AUX, Tdvps.TSC_AUX);
        load(Msr.IA32_STAR, Tdvps.STAR);
        load(Msr.IA32_LSTAR, Tdvps.LSTAR);
        load(Msr.IA32_FMASK, Tdvps.FMASK);
        load(Msr.IA32_KERNEL_GS_BASE, Tdvps.KERNEL_GS_BASE);
        loadExtendedState();
        if (tdcs.cpuidFlag(Tdcs.XFD)) {
            load(TdMsr.XFD, Tdvps.XFD);
            load(TdMsr.XFD_ERR, Tdvps.XFD_ERR);
        }
        load(Msr.IA32_SPEC_CTRL, Tdvps.SPEC_CTRL);
    }

    private void loadExtendedState() {
        long xfam = vcpu.xfam();
        if (!lp.xbuff.isRestorable(xfam)) {
            throw extendedStateFailure();
        }
        HostContext.enableComponents(cpu, xfam);
        if (!cpu.loadExtendedState(lp.xbuff, xfam)) {
            throw extendedStateFailure();
        }
        cpu.xcr0(vcpu.u64(Tdvps.XCR0));
        load(Msr.IA32_XSS, Tdvps.XSS);
    }

    private Transition extendedStateFailure() {
        return TdExit.async(lp, TdExit.NON_ACCESSIBLE, ExitReason.INVALID_GUEST_STATE, 0, EEQ_XSTATE_LOAD_FAILURE, 0, 0);
    }

    /// The module counts the instructions of a TD that has no performance monitoring. [TDX-BASE "Single-Step Attack Mitigation"]
    private void takeInstructionCounter() {
        if (lp.host.takeFixedCtrCtrl()) {
            write(TdMsr.FIXED_CTR_CTRL, HostContext.MODULE_FIXED_CTR_CTRL);
        }
        if (lp.host.takeFixedCtr0() != 0) {
            write(TdMsr.FIXED_CTR0, 0);
        }
        if (lp.host.takePerfGlobalStatus() != 0) {
            write(TdMsr.PERF_GLOBAL_STATUS_RESET, HostContext.FREEZE_AND_FC0_OVERFLOW);
        }
        lp.guestRcxOnEntry = vcpu.gpr(LpState.RCX);
    }

    private void loadPerformanceMonitoring() {
        load(TdMsr.FIXED_CTR_CTRL, Tdvps.FIXED_CTR_CTRL);
        for (int i = 0; i < config.fixedCounters; i++) {
            if (((config.fixedCounterBitmap >>> i) & 1) != 0) {
                load(TdMsr.FIXED_CTR0 + i, Tdvps.FIXED_CTR + 8 * i);
            }
        }
        for (int i = 0; i < TdMsr.PERF_COUNTERS; i++) {
            load(TdMsr.A_PMC0 + i, Tdvps.A_PMC + 8 * i);
            load(TdMsr.PERFEVTSEL0 + i, Tdvps.PERFEVTSEL + 8 * i);
        }
        load(TdMsr.OFFCORE_RSP0, Tdvps.OFFCORE_RSP);
        load(TdMsr.OFFCORE_RSP0 + 1, Tdvps.OFFCORE_RSP + 8);
        write(TdMsr.PERF_GLOBAL_STATUS_RESET, cpu.rdmsr(TdMsr.PERF_GLOBAL_STATUS));
        load(TdMsr.PERF_GLOBAL_STATUS_SET, Tdvps.PERF_GLOBAL_STATUS);
        load(TdMsr.PEBS_ENABLE, Tdvps.PEBS_ENABLE);
        if (config.hasPerfMetrics()) {
            load(TdMsr.PERF_METRICS, Tdvps.PERF_METRICS);
        }
        load(TdMsr.PEBS_DATA_CFG, Tdvps.PEBS_DATA_CFG);
        load(TdMsr.PEBS_LD_LAT, Tdvps.PEBS_LD_LAT);
        if (config.coreType == BIG_CORE) {
            load(TdMsr.PEBS_FRONTEND, Tdvps.PEBS_FRONTEND);
        }
    }

    // From the LP

    private void save(int offset, int msr) {
        vcpu.u64(offset, cpu.rdmsr(msr));
    }

    public void save() {
        if (tdcs.cpuidFlag(Tdcs.XFD)) {
            save(Tdvps.XFD, TdMsr.XFD);
            save(Tdvps.XFD_ERR, TdMsr.XFD_ERR);
        }
        vcpu.u64(Tdvps.CR2, cpu.cr2());
        vcpu.u64(Tdvps.XCR0, cpu.xcr0());
        for (int i = 0; i < 4; i++) {
            vcpu.u64(Tdvps.DR0 + 8 * i, cpu.debugRegister(i));
        }
        vcpu.u64(Tdvps.DR6, cpu.debugRegister(6));
        save(Tdvps.DS_AREA, Msr.IA32_DS_AREA);
        if (tdcs.xfam(XFAM_LBR)) {
            save(Tdvps.LBR_DEPTH, TdMsr.LBR_DEPTH);
        }
        if (tdcs.hasAttribute(Tdcs.PERFMON)) {
            savePerformanceMonitoring();
        }
        if (tdcs.cpuidFlag(Tdcs.WAITPKG)) {
            save(Tdvps.UMWAIT_CONTROL, Msr.IA32_UMWAIT_CONTROL);
        }
        if (tdcs.cpuidFlag(Tdcs.TSX)) {
            save(Tdvps.TSX_CTRL, Msr.IA32_TSX_CTRL);
        }
        save(Tdvps.UARCH_MISC_CTL, TdMsr.UARCH_MISC_CTL);
        save(Tdvps.STAR, Msr.IA32_STAR);
        save(Tdvps.LSTAR, Msr.IA32_LSTAR);
        save(Tdvps.FMASK, Msr.IA32_FMASK);
        save(Tdvps.KERNEL_GS_BASE, Msr.IA32_KERNEL_GS_BASE);
        save(Tdvps.TSC_AUX, Msr.IA32_TSC_AUX);
    }

    public void saveExtendedState() {
        HostContext.enableComponents(cpu, lp.xfam);
        cpu.saveExtendedState(lp.xbuff, lp.xfam);
    }

    private void savePerformanceMonitoring() {
        save(Tdvps.FIXED_CTR_CTRL, TdMsr.FIXED_CTR_CTRL);
        for (int i = 0; i < config.fixedCounters; i++) {
            if (((config.fixedCounterBitmap >>> i) & 1) != 0) {
                save(Tdvps.FIXED_CTR + 8 * i, TdMsr.FIXED_CTR0 + i);
            }
        }
        for (int i = 0; i < TdMsr.PERF_COUNTERS; i++) {
            save(Tdvps.A_PMC + 8 * i, TdMsr.A_PMC0 + i);
            save(Tdvps.PERFEVTSEL + 8 * i, TdMsr.PERFEVTSEL0 + i);
        }
        save(Tdvps.OFFCORE_RSP, TdMsr.OFFCORE_RSP0);
        save(Tdvps.OFFCORE_RSP + 8, TdMsr.OFFCORE_RSP0 + 1);
        save(Tdvps.PERF_GLOBAL_STATUS, TdMsr.PERF_GLOBAL_STATUS);
        if (config.hasPerfMetrics()) {
            save(Tdvps.PERF_METRICS, TdMsr.PERF_METRICS);
        }
        save(Tdvps.PEBS_ENABLE, TdMsr.PEBS_ENABLE);
        save(Tdvps.PEBS_DATA_CFG, TdMsr.PEBS_DATA_CFG);
        save(Tdvps.PEBS_LD_LAT, TdMsr.PEBS_LD_LAT);
        if (config.coreType == BIG_CORE) {
            save(Tdvps.PEBS_FRONTEND, TdMsr.PEBS_FRONTEND);
        }
    }
}
