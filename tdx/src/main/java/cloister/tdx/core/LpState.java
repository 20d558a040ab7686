package cloister.tdx.core;

import cloister.spec.tdx.SeamRegs;
import cloister.spec.vmx.VmcsField;
import cloister.tdx.port.ExtendedState;
import cloister.tdx.port.Processor;
import cloister.tdx.port.Vmcs;

/// The module's data of one logical processor.
final class LpState {
    static final int RAX = SeamRegs.RAX;
    static final int RCX = SeamRegs.RCX;
    static final int RDX = SeamRegs.RDX;
    static final int RBX = SeamRegs.RBX;
    static final int RSP = SeamRegs.RSP;
    static final int RBP = SeamRegs.RBP;
    static final int R8 = SeamRegs.R8;
    static final int R9 = SeamRegs.R9;
    static final int R10 = SeamRegs.R10;
    static final int R11 = SeamRegs.R11;
    private static final long RFLAGS_IF = 1 << 9;

    final ModuleState module;
    final Processor cpu;
    /// The VMM's registers of the SEAMCALL in progress.
    SeamRegs regs;
    boolean initialized;
    int packageId;
    int lfsr;
    /// TDVPR of the VCPU that ran last on this LP.
    long lastTdvprPa = ModuleState.NULL_PA;

    // The VCPU that runs on this LP between TDH.VP.ENTER and TD exit.
    Tdr tdr;
    Tdcs tdcs;
    Tdvps vcpu;
    Vmcs vmcs;
    ExtendedState extended;
    LockedPage tdvprPage;
    LockedPage tdrPage;
    long attributes;
    long xfam;
    boolean busLockPreempted;
    /// RCX at the last TD entry, which tells how far a REP instruction came.
    long guestRcxOnEntry;
    final HostContext host = new HostContext();
    final SingleStep stepping = new SingleStep();

    LpState(ModuleState module, Processor cpu) {
        this.module = module;
        this.cpu = cpu;
    }

    long reg(int index) {
        return regs.get(index);
    }

    void reg(int index, long value) {
        regs.set(index, value);
    }

    /// Whether an interrupt waits that the VMM would take after the SEAMCALL; with RFLAGS.IF clear it takes none.
    boolean hostInterruptPending() {
        return (cpu.seamVmcs().read(VmcsField.GUEST_RFLAGS) & RFLAGS_IF) != 0 && cpu.interruptPending();
    }

    /// The VCPU no longer runs here.
    void leaveTd() {
        tdr = null;
        tdcs = null;
        vcpu = null;
        vmcs = null;
        extended = null;
        tdrPage = null;
        tdvprPage = null;
    }

    /// RCX and RDX of a failing memory function: the entry that stopped it.
    void reportEntry(long entry, int level) {
        reg(RCX, SeptEntry.architectural(entry));
        reg(RDX, SeptEntry.architecturalInfo(entry, level));
    }

    /// MSRs of the VMM that a TD exit restores.
    static final class HostContext {
        long dsArea;
        long tsxCtrl;
        long specCtrl;
        long fixedCtrCtrl;
        long fixedCtr0;
        long perfGlobalStatus;
        long xcr0;
        long debugctlUncorePmi;
    }

    /// State of the single-step defence.
    static final class SingleStep {
        boolean active;
        int instructionsLeft;
        long savedCr8;
        boolean nmiOccurred;
        boolean initOccurred;
        long lastEntryTsc;
        long ripOnEntry;
    }
}
