package cloister.spec.kvm;

import static cloister.spec.kvm.HostRegister.Return.*;

import cloister.spec.tdx.HostState;
import cloister.spec.x86.Msr;

/// The registers of a logical processor that the host must find again after a guest, one row each: what TDH.VP.ENTER leaves in them,
/// and who brings the host's value back after an ordinary guest and after a TD. [TDX-ABI "TDH.VP.ENTER"], [SDM Vol. 3 "Loading Host
/// State"], [LINUX vcpu_enter_guest, tdx_vcpu_run, vmx_prepare_switch_to_host]
///
/// A row holds for guests with every feature that KVM lets them have. What the TDX module leaves stands only behind an exit of the TD:
/// it may come back without having entered, and then the host's values are still there.
public enum HostRegister {
    // row                  number of the MSR          after a TD            ordinary guest  TD
    CR0                     (Kind.REGISTER, 0,         Left.HOST, 0,         SWITCHED,       SWITCHED),
    CR3                     (Kind.REGISTER, 0,         Left.HOST, 0,         SWITCHED,       SWITCHED),
    CR4                     (Kind.REGISTER, 0,         Left.HOST, 0,         SWITCHED,       SWITCHED),
    /// Means something only in a page fault's handler.
    CR2                     (Kind.REGISTER, 0,         Left.VALUE, 0,        NEVER,          NEVER),
    CR8                     (Kind.REGISTER, 0,         Left.HOST, 0,         UNTOUCHED,      UNTOUCHED),
    DR0                     (Kind.BREAKPOINT, 0,       Left.VALUE, 0,        AT_EXIT,        AT_EXIT),
    DR1                     (Kind.BREAKPOINT, 0,       Left.VALUE, 0,        AT_EXIT,        AT_EXIT),
    DR2                     (Kind.BREAKPOINT, 0,       Left.VALUE, 0,        AT_EXIT,        AT_EXIT),
    DR3                     (Kind.BREAKPOINT, 0,       Left.VALUE, 0,        AT_EXIT,        AT_EXIT),
    DR6                     (Kind.BREAKPOINT, 0,       Left.VALUE, HostState.DR6, AT_EXIT,   AT_EXIT),
    DR7                     (Kind.REGISTER, 0,         Left.VALUE, HostState.DR7, AT_EXIT,   AT_EXIT),
    /// By the ABI it may have what XFAM has; the module 1.5.06 brings the host's back.
    XCR0                    (Kind.REGISTER, 0,         Left.XFAM, 0,         AT_EXIT,        AT_EXIT),
    XSS                     (Kind.MSR, Msr.IA32_XSS,   Left.XFAM, 0,         AT_EXIT,        AT_EXIT),
    PKRU                    (Kind.REGISTER, 0,         Left.VALUE, 0,        AT_EXIT,        AT_EXIT),
    X87                     (Kind.FPU, 0,              Left.INITIAL, 0,      AT_PUT,         AT_PUT),
    SSE                     (Kind.FPU, 0,              Left.INITIAL, 0,      AT_PUT,         AT_PUT),
    DEBUGCTL                (Kind.MSR, Msr.IA32_DEBUGCTL, Left.MASKED, HostState.DEBUGCTL_KEPT, AT_EXIT, AT_EXIT),
    KERNEL_GS_BASE          (Kind.MSR, Msr.IA32_KERNEL_GS_BASE, Left.VALUE, 0, AT_PUT,       AT_PUT),
    FS_BASE                 (Kind.MSR, Msr.IA32_FS_BASE, Left.HOST, 0,       SWITCHED,       SWITCHED),
    GS_BASE                 (Kind.MSR, Msr.IA32_GS_BASE, Left.HOST, 0,       SWITCHED,       SWITCHED),
    SYSENTER_CS             (Kind.MSR, Msr.IA32_SYSENTER_CS, Left.HOST, 0,   SWITCHED,       SWITCHED),
    SYSENTER_ESP            (Kind.MSR, Msr.IA32_SYSENTER_ESP, Left.HOST, 0,  SWITCHED,       SWITCHED),
    SYSENTER_EIP            (Kind.MSR, Msr.IA32_SYSENTER_EIP, Left.HOST, 0,  SWITCHED,       SWITCHED),
    EFER                    (Kind.MSR, Msr.IA32_EFER,  Left.HOST, 0,         SWITCHED,       SWITCHED),
    PAT                     (Kind.MSR, Msr.IA32_PAT,   Left.HOST, 0,         SWITCHED,       SWITCHED),
    FMASK                   (Kind.MSR, Msr.IA32_FMASK, Left.VALUE, HostState.FMASK, AT_USER_RETURN, AT_USER_RETURN),
    STAR                    (Kind.MSR, Msr.IA32_STAR,  Left.VALUE, 0,        AT_USER_RETURN, AT_USER_RETURN),
    LSTAR                   (Kind.MSR, Msr.IA32_LSTAR, Left.VALUE, 0,        AT_USER_RETURN, AT_USER_RETURN),
    TSC_AUX                 (Kind.MSR, Msr.IA32_TSC_AUX, Left.VALUE, 0,      AT_USER_RETURN, AT_USER_RETURN),
    /// Of a TD without TSX the module turns it off and back on.
    TSX_CTRL                (Kind.MSR, Msr.IA32_TSX_CTRL, Left.HOST, 0,      AT_USER_RETURN, WITHHELD),
    /// A TD has no access to it.
    CSTAR                   (Kind.MSR, Msr.IA32_CSTAR, Left.HOST, 0,         AT_USER_RETURN, UNTOUCHED),
    U_CET                   (Kind.MSR, Msr.IA32_U_CET, Left.INITIAL, 0,      AT_PUT,         AT_PUT),
    PL0_SSP                 (Kind.MSR, Msr.IA32_PL0_SSP, Left.INITIAL, 0,    AT_PUT,         AT_PUT),
    PL1_SSP                 (Kind.MSR, Msr.IA32_PL1_SSP, Left.INITIAL, 0,    AT_PUT,         AT_PUT),
    PL2_SSP                 (Kind.MSR, Msr.IA32_PL2_SSP, Left.INITIAL, 0,    AT_PUT,         AT_PUT),
    PL3_SSP                 (Kind.MSR, Msr.IA32_PL3_SSP, Left.INITIAL, 0,    AT_PUT,         AT_PUT),
    S_CET                   (Kind.MSR, Msr.IA32_S_CET, Left.HOST, 0,         SWITCHED,       SWITCHED),
    SSP                     (Kind.REGISTER, 0,         Left.HOST, 0,         SWITCHED,       SWITCHED),
    INTERRUPT_SSP_TABLE     (Kind.MSR, Msr.IA32_INTERRUPT_SSP_TABLE_ADDR, Left.HOST, 0, SWITCHED, SWITCHED),
    SPEC_CTRL               (Kind.MSR, Msr.IA32_SPEC_CTRL, Left.HOST, 0,     UNTOUCHED,      UNTOUCHED),
    /// KVM stores what ordinary guests write; the host's limit is in force while they run.
    UMWAIT_CONTROL          (Kind.MSR, Msr.IA32_UMWAIT_CONTROL, Left.GUEST, 0, UNTOUCHED,    WITHHELD),
    PKRS                    (Kind.MSR, Msr.IA32_PKRS,  Left.HOST, 0,         WITHHELD,       UNTOUCHED),
    DS_AREA                 (Kind.MSR, Msr.IA32_DS_AREA, Left.HOST, 0,       WITHHELD,       UNTOUCHED),
    /// Linux leaves data-operand-independent timing off, as the module does.
    UARCH_MISC_CTL          (Kind.MSR, Msr.IA32_UARCH_MISC_CTL, Left.VALUE, 0, UNTOUCHED,    NEVER),
    FIXED_CTR_CTRL          (Kind.MSR, Msr.IA32_FIXED_CTR_CTRL, Left.PERFMON, 0, UNTOUCHED,  WITHHELD),
    PERF_GLOBAL_CTRL        (Kind.MSR, Msr.IA32_PERF_GLOBAL_CTRL, Left.PERFMON, 0, UNTOUCHED, WITHHELD),
    PMC0                    (Kind.MSR, Msr.IA32_PMC0,  Left.PERFMON, 0,      UNTOUCHED,      WITHHELD),
    LBR_CTL                 (Kind.MSR, Msr.IA32_LBR_CTL, Left.LBR, 0,        WITHHELD,       WITHHELD);

    /// What kind of register a row is.
    public enum Kind {
        REGISTER,
        /// A debug register that means something only while breakpoints are on. [LINUX hw_breakpoint_active]
        BREAKPOINT,
        MSR,
        /// Many registers, all of one state component.
        FPU
    }

    /// What TDH.VP.ENTER leaves behind a TD exit.
    public enum Left {
        /// What the host had.
        HOST,
        /// [HostRegister#tdValue].
        VALUE,
        /// Those bits of the host's value that are in [HostRegister#tdValue].
        MASKED,
        /// What XFAM has.
        XFAM,
        /// The initial configuration of the state component, if XFAM has it; else what the host had.
        INITIAL,
        /// What the guest had, if it has the feature.
        GUEST,
        /// Zero, if the TD has ATTRIBUTES.PERFMON; else what the host had.
        PERFMON,
        /// Zero, if XFAM has architectural LBRs; else what the host had.
        LBR
    }

    /// Who brings the host's value back.
    public enum Return {
        /// No guest can change it.
        UNTOUCHED,
        /// No guest that could change it gets the feature.
        WITHHELD,
        /// The processor, from the VMCS or with SEAMRET; KVM has put the host's value there.
        SWITCHED,
        /// KVM, behind each VM exit.
        AT_EXIT,
        /// KVM, when the vCPU leaves the processor.
        AT_PUT,
        /// KVM, when the processor goes back to a user program.
        AT_USER_RETURN,
        /// Nobody: the host needs no value there.
        NEVER
    }

    private final Kind kind;
    private final int msr;
    private final Left left;
    private final long tdValue;
    private final Return afterGuest;
    private final Return afterTd;

    HostRegister(Kind kind, int msr, Left left, long tdValue, Return afterGuest, Return afterTd) {
        this.kind = kind;
        this.msr = msr;
        this.left = left;
        this.tdValue = tdValue;
        this.afterGuest = afterGuest;
        this.afterTd = afterTd;
    }

    /// The kind of register.
    public Kind kind() {
        return kind;
    }

    /// The number of the MSR, for rows of kind MSR.
    public int msr() {
        return msr;
    }

    /// What TDH.VP.ENTER leaves.
    public Left left() {
        return left;
    }

    /// The value or the mask for [Left#VALUE] and [Left#MASKED].
    public long tdValue() {
        return tdValue;
    }

    /// Who brings it back after an ordinary guest or a TD.
    public Return returned(boolean td) {
        return td ? afterTd : afterGuest;
    }
}
