package cloister.tdx.core;

import cloister.spec.vmx.VmcsField;
import cloister.spec.x86.Msr;
import cloister.tdx.exits.MsrAccess;
import cloister.tdx.exits.TdExit;
import cloister.tdx.port.Processor;

/// Moves a VCPU's state that VMX does not switch between its TDVPS and the LP, and scrubs the LP for the VMM. [TDX-BASE "TD
/// Entry and Exit"]
public final class TdContext {
    /// FIXED_CTR0 counts in all rings without interrupts: the instruction count of the single-step defence.
    private static final long MODULE_FIXED_CTR_CTRL = 3;
    private static final long FREEZE_AND_FC0_OVERFLOW = 1L << 32 | 1L << 59;
    private static final long TSX_DISABLE = 3;
    private static final long FMASK_RESET = 0x20200;
    private static final long DR6_RESET = 0xffff_0ff0L;
    private static final long LBR_DEPTH_RESET = 0x20;
    private static final int BIG_CORE = 0x40;
    private static final int XFAM_PT = 8;
    private static final int XFAM_LBR = 15;
    /// IA32_DEBUGCTL bits that a TD exit preserves: 1, 12, 14, and 13 of the VMM.
    private static final long DEBUGCTL_PRESERVED = 1 << 1 | 1 << 12 | 1 << 13 | 1 << 14;
    private static final int EEQ_MSR_LOAD_FAILURE = 3;
    private static final int EEQ_XSTATE_LOAD_FAILURE = 4;

    private final LpState lp;
    private final Processor cpu;
    private final Tdcs tdcs;
    private final Tdvps vcpu;
    private final PlatformConfig config;

    public TdContext(LpState lp) {
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
            TdExit.async(lp, TdExit.NON_ACCESSIBLE, cloister.spec.vmx.ExitReason.MSR_LOADING, 0,
                    EEQ_MSR_LOAD_FAILURE | (long) msr << 32, 0, 0);
        }
    }

    // To the LP

    public void load() {
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
            lp.host.tsxCtrl = cpu.rdmsr(Msr.IA32_TSX_CTRL);
            if ((lp.host.tsxCtrl & 1) == 0 || lp.host.tsxCtrl >>> 2 != 0) {
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
        lp.host.specCtrl = cpu.rdmsr(Msr.IA32_SPEC_CTRL);
        load(Msr.IA32_SPEC_CTRL, Tdvps.SPEC_CTRL);
    }

    private void loadExtendedState() {
        long header = vcpu.u64(Tdvps.XBUFF_XCOMP_BV);
        long xfam = vcpu.xfam();
        if (header >= 0 || (header & Long.MAX_VALUE & ~xfam) != 0) {
            extendedStateFailure();
        }
        componentsOf(xfam);
        if (!cpu.loadExtendedState(lp.extended, xfam)) {
            extendedStateFailure();
        }
        cpu.xcr0(vcpu.u64(Tdvps.XCR0));
        load(Msr.IA32_XSS, Tdvps.XSS);
    }

    /// Makes all components of `xfam` accessible to XSAVES and XRSTORS.
    private void componentsOf(long xfam) {
        cpu.xcr0(xfam & PlatformCheck.XCR0_USER_BITS);
        cpu.wrmsr(Msr.IA32_XSS, xfam & PlatformCheck.XSS_SUPERVISOR_BITS);
    }

    private void extendedStateFailure() {
        TdExit.async(lp, TdExit.NON_ACCESSIBLE, cloister.spec.vmx.ExitReason.INVALID_GUEST_STATE, 0, EEQ_XSTATE_LOAD_FAILURE,
                0, 0);
    }

    private void takeInstructionCounter() {
        lp.host.fixedCtrCtrl = cpu.rdmsr(TdMsr.FIXED_CTR_CTRL);
        if (lp.host.fixedCtrCtrl != MODULE_FIXED_CTR_CTRL) {
            write(TdMsr.FIXED_CTR_CTRL, MODULE_FIXED_CTR_CTRL);
        }
        lp.host.fixedCtr0 = cpu.rdmsr(TdMsr.FIXED_CTR0);
        if (lp.host.fixedCtr0 != 0) {
            write(TdMsr.FIXED_CTR0, 0);
        }
        lp.host.perfGlobalStatus = cpu.rdmsr(TdMsr.PERF_GLOBAL_STATUS) & FREEZE_AND_FC0_OVERFLOW;
        if (lp.host.perfGlobalStatus != 0) {
            write(TdMsr.PERF_GLOBAL_STATUS_RESET, FREEZE_AND_FC0_OVERFLOW);
        }
        lp.guestRcxOnEntry = vcpu.gpr(LpState.RCX);
    }

    private void loadPerformanceMonitoring() {
        load(TdMsr.FIXED_CTR_CTRL, Tdvps.FIXED_CTR_CTRL);
        for (int i = 0; i < config.fixedCounters; i++) {
            if ((config.fixedCounterBitmap >>> i & 1) != 0) {
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
        if (perfMetrics()) {
            load(MsrAccess.IA32_PERF_METRICS, Tdvps.PERF_METRICS);
        }
        load(TdMsr.PEBS_DATA_CFG, Tdvps.PEBS_DATA_CFG);
        load(TdMsr.PEBS_LD_LAT, Tdvps.PEBS_LD_LAT);
        if (config.coreType == BIG_CORE) {
            load(TdMsr.PEBS_FRONTEND, Tdvps.PEBS_FRONTEND);
        }
    }

    private boolean perfMetrics() {
        return MsrAccess.hasPerfMetrics(config);
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
        componentsOf(lp.xfam);
        cpu.saveExtendedState(lp.extended, lp.xfam);
        vcpu.u64(Tdvps.XBUFF_XSTATE_BV, lp.xfam);
        vcpu.u64(Tdvps.XBUFF_XCOMP_BV, 1L << 63 | lp.xfam);
    }

    private void savePerformanceMonitoring() {
        save(Tdvps.FIXED_CTR_CTRL, TdMsr.FIXED_CTR_CTRL);
        for (int i = 0; i < config.fixedCounters; i++) {
            if ((config.fixedCounterBitmap >>> i & 1) != 0) {
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
        if (perfMetrics()) {
            save(Tdvps.PERF_METRICS, MsrAccess.IA32_PERF_METRICS);
        }
        save(Tdvps.PEBS_ENABLE, TdMsr.PEBS_ENABLE);
        save(Tdvps.PEBS_DATA_CFG, TdMsr.PEBS_DATA_CFG);
        save(Tdvps.PEBS_LD_LAT, TdMsr.PEBS_LD_LAT);
        if (config.coreType == BIG_CORE) {
            save(Tdvps.PEBS_FRONTEND, TdMsr.PEBS_FRONTEND);
        }
    }

    // For the VMM

    /// Leaves nothing of the TD in the LP.
    public void scrub(boolean perfmon, long xfam) {
        componentsOf(xfam | 2);
        cpu.resetExtendedState(xfam | 2);
        cpu.cr2(0);
        for (int i = 0; i < 4; i++) {
            cpu.debugRegister(i, 0);
        }
        cpu.debugRegister(6, DR6_RESET);
        cpu.wrmsr(Msr.IA32_DS_AREA, lp.host.dsArea);
        if (tdcs.cpuidFlag(Tdcs.XFD)) {
            cpu.wrmsr(TdMsr.XFD, 0);
            cpu.wrmsr(TdMsr.XFD_ERR, 0);
        }
        if (perfmon) {
            scrubPerformanceMonitoring();
        } else {
            if (lp.host.fixedCtrCtrl != MODULE_FIXED_CTR_CTRL) {
                cpu.wrmsr(TdMsr.FIXED_CTR_CTRL, lp.host.fixedCtrCtrl);
            }
            cpu.wrmsr(TdMsr.FIXED_CTR0, lp.host.fixedCtr0);
            if (lp.host.perfGlobalStatus != 0) {
                cpu.wrmsr(TdMsr.PERF_GLOBAL_STATUS_SET, lp.host.perfGlobalStatus);
            }
        }
        cpu.wrmsr(TdMsr.UARCH_MISC_CTL, 0);
        cpu.wrmsr(Msr.IA32_TSC_AUX, 0);
        cpu.wrmsr(Msr.IA32_STAR, 0);
        cpu.wrmsr(Msr.IA32_LSTAR, 0);
        cpu.wrmsr(Msr.IA32_FMASK, FMASK_RESET);
        cpu.wrmsr(Msr.IA32_KERNEL_GS_BASE, 0);
        if (tdcs.cpuidFlag(Tdcs.TSX)) {
            cpu.wrmsr(Msr.IA32_TSX_CTRL, 0);
        } else if ((config.hle || config.rtm) && (config.archCapabilities & PlatformCheck.ARCH_CAP_TSX_CTRL) != 0) {
            cpu.wrmsr(Msr.IA32_TSX_CTRL, lp.host.tsxCtrl);
        }
        cpu.wrmsr(Msr.IA32_SPEC_CTRL, lp.host.specCtrl);
        var seam = cpu.seamVmcs();
        seam.write(VmcsField.GUEST_DEBUGCTL, seam.read(VmcsField.GUEST_DEBUGCTL) & DEBUGCTL_PRESERVED);
        if (perfmon) {
            seam.write(VmcsField.GUEST_PERF_GLOBAL_CTRL, 0);
        }
        if ((xfam >>> XFAM_PT & 1) != 0) {
            seam.write(VmcsField.GUEST_RTIT_CTL, 0);
        }
        if ((xfam >>> XFAM_LBR & 1) != 0) {
            seam.write(VmcsField.GUEST_LBR_CTL, 0);
            cpu.wrmsr(TdMsr.LBR_DEPTH, LBR_DEPTH_RESET);
        }
        seam.write(VmcsField.GUEST_DR7, 0x400);
    }

    private void scrubPerformanceMonitoring() {
        for (int i = 0; i < config.fixedCounters; i++) {
            if ((config.fixedCounterBitmap >>> i & 1) != 0) {
                cpu.wrmsr(TdMsr.FIXED_CTR0 + i, 0);
            }
        }
        for (int i = 0; i < TdMsr.PERF_COUNTERS; i++) {
            cpu.wrmsr(TdMsr.A_PMC0 + i, 0);
        }
        cpu.wrmsr(TdMsr.OFFCORE_RSP0, 0);
        cpu.wrmsr(TdMsr.OFFCORE_RSP0 + 1, 0);
        cpu.wrmsr(TdMsr.PERF_GLOBAL_STATUS_RESET, cpu.rdmsr(TdMsr.PERF_GLOBAL_STATUS));
        if (perfMetrics()) {
            cpu.wrmsr(MsrAccess.IA32_PERF_METRICS, 0);
        }
    }
}
