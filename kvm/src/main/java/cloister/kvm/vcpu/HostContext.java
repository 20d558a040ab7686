package cloister.kvm.vcpu;

import cloister.cpu.LogicalProcessor;
import cloister.cpu.fpu.FpuState;
import cloister.spec.x86.Msr;

/// What of the host's own state a guest or the TDX module replaces on a processor, and what brings it back. [LINUX struct kvm_host,
/// vmx_prepare_switch_to_guest, hw_breakpoint_restore]
public final class HostContext {
    private static final int BREAKPOINTS = 4;
    private static final long ENABLED = 0xff;

    private final FpuState fpu = new FpuState();
    private final long[] breakpoints = new long[BREAKPOINTS];
    private long dr6;
    private long dr7;
    private long kernelGsBase;
    private long fsBase;
    private long gsBase;
    private long xcr0;
    private long xss;
    private int pkru;
    private long debugctl;

    /// Takes down what the host has on `lp`.
    public void save(LogicalProcessor lp) {
        fpu.copyFrom(lp.fpu());
        dr7 = lp.dr(7);
        if (breakpointsActive()) {
            for (int i = 0; i < BREAKPOINTS; i++) {
                breakpoints[i] = lp.dr(i);
            }
            dr6 = lp.dr(6);
        }
        kernelGsBase = lp.rdmsr(Msr.IA32_KERNEL_GS_BASE);
        fsBase = lp.rdmsr(Msr.IA32_FS_BASE);
        gsBase = lp.rdmsr(Msr.IA32_GS_BASE);
        xcr0 = lp.xcr0();
        xss = lp.rdmsr(Msr.IA32_XSS);
        pkru = lp.pkru();
        debugctl = lp.rdmsr(Msr.IA32_DEBUGCTL);
    }

    /// Whether the host uses breakpoints. Only then do its debug registers mean anything. [LINUX hw_breakpoint_active]
    public boolean breakpointsActive() {
        return (dr7 & ENABLED) != 0;
    }

    /// Brings the host's breakpoints back, if it uses any.
    public void restoreBreakpoints(LogicalProcessor lp) {
        if (!breakpointsActive()) {
            return;
        }
        for (int i = 0; i < BREAKPOINTS; i++) {
            lp.dr(i, breakpoints[i]);
        }
        lp.dr(6, dr6);
        lp.dr(7, dr7);
    }

    /// Brings back XCR0, XSS and PKRU where they differ. [LINUX kvm_load_host_xsave_state]
    public void restoreExtendedState(LogicalProcessor lp) {
        if (lp.pkru() != pkru) {
            lp.pkru(pkru);
        }
        if (lp.xcr0() != xcr0) {
            lp.xcr0(xcr0);
        }
        if (lp.rdmsr(Msr.IA32_XSS) != xss) {
            lp.wrmsr(Msr.IA32_XSS, xss);
        }
    }

    /// The host's FS base.
    public long fsBase() {
        return fsBase;
    }

    /// The host's GS base, as the kernel has it.
    public long gsBase() {
        return gsBase;
    }

    /// IA32_DEBUGCTL of the host.
    public long debugctl() {
        return debugctl;
    }

    /// Brings back the FPU's registers and the user's GS base.
    public void restoreRegisters(LogicalProcessor lp) {
        lp.fpu().copyFrom(fpu);
        lp.wrmsr(Msr.IA32_KERNEL_GS_BASE, kernelGsBase);
    }
}
