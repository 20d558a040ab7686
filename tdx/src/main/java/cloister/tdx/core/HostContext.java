package cloister.tdx.core;

import cloister.spec.tdx.HostState;
import cloister.spec.vmx.VmcsField;
import cloister.spec.x86.Msr;
import cloister.tdx.port.Processor;

/// The VMM's state that a TD entry replaces and VMX does not switch: some of it comes back with the TD exit, the rest is
/// scrubbed to its INIT values. [TDX-ABI "TDH.VP.ENTER"]
public final class HostContext {
    private static final long SSE = 1 << 1;
    private static final int XFAM_PT = 8;
    private static final int XFAM_LBR = 15;
    /// FIXED_CTR0 counts in all rings without interrupts: the instruction count of the single-step defence.
    public static final long MODULE_FIXED_CTR_CTRL = 3;
    public static final long FREEZE_AND_FC0_OVERFLOW = (1L << 32) | (1L << 59);

    private final Processor cpu;
    private final PlatformConfig config;
    private long xcr0;
    private long dsArea;
    private long specCtrl;
    private long tsxCtrl;
    private long fixedCtrCtrl;
    private long fixedCtr0;
    private long perfGlobalStatus;

    HostContext(Processor cpu, PlatformConfig config) {
        this.cpu = cpu;
        this.config = config;
    }

    /// At the start of a SEAMCALL.
    public void enterModule() {
        xcr0 = cpu.xcr0();
    }

    /// At the end of a SEAMCALL.
    public void leaveModule() {
        cpu.xcr0(xcr0);
    }

    public void takeDsArea() {
        dsArea = cpu.rdmsr(Msr.IA32_DS_AREA);
    }

    public void takeSpecCtrl() {
        specCtrl = cpu.rdmsr(Msr.IA32_SPEC_CTRL);
    }

    /// @return the VMM's IA32_TSX_CTRL
    public long takeTsxCtrl() {
        tsxCtrl = cpu.rdmsr(Msr.IA32_TSX_CTRL);
        return tsxCtrl;
    }

    /// @return whether the counter does not yet count as the module needs it
    public boolean takeFixedCtrCtrl() {
        fixedCtrCtrl = cpu.rdmsr(TdMsr.FIXED_CTR_CTRL);
        return fixedCtrCtrl != MODULE_FIXED_CTR_CTRL;
    }

    /// @return the VMM's instruction count
    public long takeFixedCtr0() {
        fixedCtr0 = cpu.rdmsr(TdMsr.FIXED_CTR0);
        return fixedCtr0;
    }

    /// @return the overflow of FIXED_CTR0 and the freeze indication, if the VMM has them
    public long takePerfGlobalStatus() {
        perfGlobalStatus = cpu.rdmsr(TdMsr.PERF_GLOBAL_STATUS) & FREEZE_AND_FC0_OVERFLOW;
        return perfGlobalStatus;
    }

    /// Makes all components of `xfam` accessible to XSAVES and XRSTORS.
    public static void enableComponents(Processor cpu, long xfam) {
        cpu.xcr0(xfam & PlatformCheck.XCR0_USER_BITS);
        cpu.wrmsr(Msr.IA32_XSS, xfam & PlatformCheck.XSS_SUPERVISOR_BITS);
    }

    /// Extended state of `xfam` to INIT; XCR0 and IA32_XSS stay as that needs them.
    public void scrubExtendedState(long xfam) {
        enableComponents(cpu, xfam);
        cpu.resetExtendedState(xfam);
    }

    /// Leaves nothing of the TD in the LP.
    ///
    public void restore(Tdcs tdcs, boolean perfmon, long xfam) {
        scrubExtendedState(xfam | SSE);
        cpu.cr2(0);
        for (int i = 0; i < 4; i++) {
            cpu.debugRegister(i, 0);
        }
        cpu.debugRegister(6, HostState.DR6);
        cpu.wrmsr(Msr.IA32_DS_AREA, dsArea);
        if (tdcs.cpuidFlag(Tdcs.XFD)) {
            cpu.wrmsr(TdMsr.XFD, 0);
            cpu.wrmsr(TdMsr.XFD_ERR, 0);
        }
        if (perfmon) {
            scrubPerformanceMonitoring();
        } else {
            restoreInstructionCounter();
        }
        cpu.wrmsr(TdMsr.UARCH_MISC_CTL, 0);
        cpu.wrmsr(Msr.IA32_TSC_AUX, 0);
        cpu.wrmsr(Msr.IA32_STAR, 0);
        cpu.wrmsr(Msr.IA32_LSTAR, 0);
        cpu.wrmsr(Msr.IA32_FMASK, HostState.FMASK);
        cpu.wrmsr(Msr.IA32_KERNEL_GS_BASE, 0);
        if (tdcs.cpuidFlag(Tdcs.TSX)) {
            cpu.wrmsr(Msr.IA32_TSX_CTRL, 0);
        } else if ((config.hle || config.rtm) && (config.archCapabilities & PlatformCheck.ARCH_CAP_TSX_CTRL) != 0) {
            cpu.wrmsr(Msr.IA32_TSX_CTRL, tsxCtrl);
        }
        cpu.wrmsr(Msr.IA32_SPEC_CTRL, specCtrl);
        restoreSwitched(perfmon, xfam);
    }

    /// What SEAMRET loads from the SEAM transfer VMCS.
    private void restoreSwitched(boolean perfmon, long xfam) {
        var seam = cpu.seamVmcs();
        seam.write(VmcsField.GUEST_DEBUGCTL, seam.read(VmcsField.GUEST_DEBUGCTL) & HostState.DEBUGCTL_KEPT);
        if (perfmon) {
            seam.write(VmcsField.GUEST_PERF_GLOBAL_CTRL, 0);
        }
        if (((xfam >>> XFAM_PT) & 1) != 0) {
            seam.write(VmcsField.GUEST_RTIT_CTL, 0);
        }
        if (((xfam >>> XFAM_LBR) & 1) != 0) {
            seam.write(VmcsField.GUEST_LBR_CTL, 0);
        }
        seam.write(VmcsField.GUEST_DR7, HostState.DR7);
    }

    private void restoreInstructionCounter() {
        if (fixedCtrCtrl != MODULE_FIXED_CTR_CTRL) {
            cpu.wrmsr(TdMsr.FIXED_CTR_CTRL, fixedCtrCtrl);
        }
        cpu.wrmsr(TdMsr.FIXED_CTR0, fixedCtr0);
        if (perfGlobalStatus != 0) {
            cpu.wrmsr(TdMsr.PERF_GLOBAL_STATUS_SET, perfGlobalStatus);
        }
    }

    private void scrubPerformanceMonitoring() {
        for (int i = 0; i < config.fixedCounters; i++) {
            if (((config.fixedCounterBitmap >>> i) & 1) != 0) {
                cpu.wrmsr(TdMsr.FIXED_CTR0 + i, 0);
            }
        }
        for (int i = 0; i < TdMsr.PERF_COUNTERS; i++) {
            cpu.wrmsr(TdMsr.A_PMC0 + i, 0);
        }
        cpu.wrmsr(TdMsr.OFFCORE_RSP0, 0);
        cpu.wrmsr(TdMsr.OFFCORE_RSP0 + 1, 0);
        cpu.wrmsr(TdMsr.PERF_GLOBAL_STATUS_RESET, cpu.rdmsr(TdMsr.PERF_GLOBAL_STATUS));
        if (config.hasPerfMetrics()) {
            cpu.wrmsr(TdMsr.PERF_METRICS, 0);
        }
    }
}
