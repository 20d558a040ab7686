package cloister.tdx.core;

import cloister.spec.tdx.SeamRegs;
import cloister.spec.vmx.VmcsField;
import cloister.spec.x86.Msr;
import cloister.tdx.port.Processor;
import cloister.tdx.port.Vmcs;

/// The module's data of one logical processor.
public final class LpState {
    public static final int RAX = SeamRegs.RAX;
    public static final int RCX = SeamRegs.RCX;
    public static final int RDX = SeamRegs.RDX;
    public static final int RBX = SeamRegs.RBX;
    public static final int RSP = SeamRegs.RSP;
    public static final int RBP = SeamRegs.RBP;
    public static final int R8 = SeamRegs.R8;
    public static final int R9 = SeamRegs.R9;
    public static final int R10 = SeamRegs.R10;
    public static final int R11 = SeamRegs.R11;
    private static final long RFLAGS_IF = 1 << 9;
    /// IA32_INTR_PENDING: an external interrupt waits.
    private static final long INTR = 1;

    public final ModuleState module;
    public final Processor cpu;
    /// The VMM's registers of the SEAMCALL in progress.
    public SeamRegs regs;
    public boolean initialized;
    public int packageId;
    public int lfsr;
    /// TDVPR of the VCPU that ran last on this LP.
    public long lastTdvprPa = ModuleState.NULL_PA;

    // The VCPU that runs on this LP between TDH.VP.ENTER and TD exit.
    public Tdr tdr;
    public Tdcs tdcs;
    public Tdvps vcpu;
    public Vmcs vmcs;
    public Xbuff xbuff;
    public LockedPage tdvprPage;
    public LockedPage tdrPage;
    public long attributes;
    public long xfam;
    public boolean busLockPreempted;
    /// RCX at the last TD entry, which tells how far a REP instruction came.
    public long guestRcxOnEntry;
    public final HostContext host;
    public final SingleStep stepping = new SingleStep();

    public LpState(ModuleState module, Processor cpu) {
        this.module = module;
        this.cpu = cpu;
        this.host = new HostContext(cpu, module.config);
    }

    public long reg(int index) {
        return regs.get(index);
    }

    public void reg(int index, long value) {
        regs.set(index, value);
    }

    /// Sets output registers to 0.
    public void clear(int... registers) {
        for (int register : registers) {
            regs.set(register, 0);
        }
    }

    /// Whether an event waits that the VMM would take after the SEAMCALL: an interrupt only with RFLAGS.IF set, an NMI, an SMI
    /// and others always.
    public boolean hostInterruptPending() {
        long pending = cpu.rdmsr(Msr.IA32_INTR_PENDING);
        if ((cpu.seamVmcs().read(VmcsField.GUEST_RFLAGS) & RFLAGS_IF) == 0) {
            pending &= ~INTR;
        }
        return pending != 0;
    }

    /// The VCPU no longer runs here.
    public void leaveTd() {
        tdr = null;
        tdcs = null;
        vcpu = null;
        vmcs = null;
        xbuff = null;
        tdrPage = null;
        tdvprPage = null;
    }

    /// RCX and RDX of a failing memory function: the entry that stopped it.
    public void reportEntry(long entry, int level) {
        reg(RCX, SeptEntry.architectural(entry));
        reg(RDX, SeptEntry.architecturalInfo(entry, level));
    }

    /// RCX and RDX of a memory function that an entry of an L2 VM's tree stopped.
    void reportL2Entry(long entry, int level, int vm, boolean debug) {
        reg(RCX, L2SeptEntry.architectural(entry, debug));
        reg(RDX, level | ((long) L2SeptEntry.architecturalState(entry) << 8) | ((long) vm << 16));
    }

    /// State of the single-step defence.
    public static final class SingleStep {
        public boolean active;
        public int instructionsLeft;
        public long savedCr8;
        public boolean nmiOccurred;
        public boolean initOccurred;
        public long lastEntryTsc;
        public long ripOnEntry;
        /// How often another exit has broken the filter off since TDH.VP.ENTER, before it had made a step.
        public int fruitless;
    }
}
