package cloister.kvm.vcpu;

import cloister.cpu.LogicalProcessor;
import cloister.cpu.fpu.FpuState;
import cloister.kvm.host.LostRegisters;
import cloister.spec.kvm.HostRegister;
import cloister.spec.x86.Msr;

/// What of the host's own state a guest or the TDX module replaces on a processor, and what brings it back: the rows of [HostRegister]
/// that KVM restores itself behind an exit or when the vCPU leaves. [LINUX struct kvm_host, vmx_prepare_switch_to_guest,
/// hw_breakpoint_restore]
public final class HostContext {
    private static final int BREAKPOINTS = 4;
    private static final long ENABLED = 0xff;
    private static final HostRegister[] BREAKPOINT = {HostRegister.DR0, HostRegister.DR1, HostRegister.DR2, HostRegister.DR3};
    /// What XSAVES manages of the control-flow enforcement state.
    private static final HostRegister[] CONTROL_FLOW = {HostRegister.U_CET, HostRegister.PL0_SSP, HostRegister.PL1_SSP,
            HostRegister.PL2_SSP, HostRegister.PL3_SSP};

    private final LostRegisters lost;
    private final FpuState fpu = new FpuState();
    private final long[] breakpoints = new long[BREAKPOINTS];
    private final long[] controlFlow = new long[CONTROL_FLOW.length];
    private long dr6;
    private long dr7;
    private long kernelGsBase;
    private long xcr0;
    private long xss;
    private int pkru;
    private long debugctl;

    /// @param lost what is not brought back
    public HostContext(LostRegisters lost) {
        this.lost = lost;
    }

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
        for (int i = 0; i < CONTROL_FLOW.length; i++) {
            controlFlow[i] = lp.rdmsr(CONTROL_FLOW[i].msr());
        }
        kernelGsBase = lp.rdmsr(Msr.IA32_KERNEL_GS_BASE);
        xcr0 = lp.xcr0();
        xss = lp.rdmsr(Msr.IA32_XSS);
        pkru = lp.pkru();
    }

    /// Takes down IA32_DEBUGCTL, which interrupts of the host change: before each entry. [LINUX vcpu_enter_guest]
    public void saveDebugctl(LogicalProcessor lp) {
        debugctl = lp.rdmsr(Msr.IA32_DEBUGCTL);
    }

    /// Brings IA32_DEBUGCTL back, unless all bits that the host has are in `kept`, those that survive the exit.
    public void restoreDebugctl(LogicalProcessor lp, long kept) {
        if ((debugctl & ~kept) != 0 && !lost.has(HostRegister.DEBUGCTL)) {
            lp.wrmsr(Msr.IA32_DEBUGCTL, debugctl);
        }
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
            if (!lost.has(BREAKPOINT[i])) {
                lp.dr(i, breakpoints[i]);
            }
        }
        if (!lost.has(HostRegister.DR6)) {
            lp.dr(6, dr6);
        }
        if (!lost.has(HostRegister.DR7)) {
            lp.dr(7, dr7);
        }
    }

    /// Brings back XCR0, XSS and PKRU where they differ. [LINUX kvm_load_xfeatures, tdx_load_host_xsave_state]
    public void restoreExtendedState(LogicalProcessor lp) {
        if (lp.pkru() != pkru && !lost.has(HostRegister.PKRU)) {
            lp.pkru(pkru);
        }
        if (lp.xcr0() != xcr0 && !lost.has(HostRegister.XCR0)) {
            lp.xcr0(xcr0);
        }
        if (lp.rdmsr(Msr.IA32_XSS) != xss && !lost.has(HostRegister.XSS)) {
            lp.wrmsr(Msr.IA32_XSS, xss);
        }
    }

    /// IA32_XSS of the host.
    public long xss() {
        return xss;
    }

    /// Brings back the FPU's registers, the user's control-flow enforcement and the user's GS base. [LINUX kvm_put_guest_fpu]
    public void restoreRegisters(LogicalProcessor lp) {
        if (lost.has(HostRegister.X87)) {
            System.arraycopy(lp.fpu().st, 0, fpu.st, 0, fpu.st.length);
            fpu.fcw = lp.fpu().fcw;
        }
        if (lost.has(HostRegister.SSE)) {
            System.arraycopy(lp.fpu().xmm, 0, fpu.xmm, 0, fpu.xmm.length);
        }
        lp.fpu().copyFrom(fpu);
        for (int i = 0; i < CONTROL_FLOW.length; i++) {
            int msr = CONTROL_FLOW[i].msr();
            if (lp.rdmsr(msr) != controlFlow[i] && !lost.has(CONTROL_FLOW[i])) {
                lp.wrmsr(msr, controlFlow[i]);
            }
        }
        if (!lost.has(HostRegister.KERNEL_GS_BASE)) {
            lp.wrmsr(Msr.IA32_KERNEL_GS_BASE, kernelGsBase);
        }
    }
}
