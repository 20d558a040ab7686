package cloister.cpu.core;

import cloister.isa.Instruction;
import cloister.isa.Op;
import cloister.sim.Persistent;
import cloister.sim.StateSink;
import cloister.spec.x86.Cet;
import cloister.spec.x86.Cr4;
import cloister.spec.x86.ExceptionVector;

/// The registers of control-flow enforcement of one processor, and indirect-branch tracking. Shadow stacks are in [ShadowStack].
/// [SDM Vol. 1 "Control-flow Enforcement Technology (CET)"]
///
/// What is in force at the current privilege level is the [#variant]: decoded code is kept for each one apart, so that code costs
/// nothing where enforcement is off. A waiting tracker sets [#ATTENTION], and whoever then goes on looks at the next instruction.
public final class ControlFlow implements Persistent {
    /// Bits of [#variant]: shadow stack enabled; ENDBRANCH tracking enabled; tracking may be suppressed.
    static final int SHADOW_STACK = 1;
    static final int TRACKING = 2;
    static final int LEGACY = 4;
    /// The bit of [Cpu#attention] that says that the tracker waits.
    public static final int ATTENTION = 1 << 8;

    public long uCet;
    public long sCet;
    public long ssp;
    public long interruptSspTable;
    /// IA32_PL0_SSP to IA32_PL3_SSP.
    public final long[] plSsp = new long[4];

    /// What is in force at the current privilege level.
    int variant;
    private int userVariant;
    private int supervisorVariant;
    private final Cpu cpu;

    ControlFlow(Cpu cpu) {
        this.cpu = cpu;
    }

    @Override public String stateName() {
        return "cet";
    }

    @Override public void describe(StateSink out) {
        out.words("msrs", uCet, sCet, ssp, interruptSspTable);
        out.words("plSsp", plSsp.clone());
    }

    /// Recomputes what depends on CPL, mode, CR4.CET and the control MSRs.
    void update() {
        boolean on = (cpu.cr4 & Cr4.CET) != 0 && cpu.protectedMode() && !cpu.virtual8086();
        int user = on ? variant(uCet) : 0;
        int supervisor = on ? variant(sCet) : 0;
        if (user != userVariant || supervisor != supervisorVariant) {
            userVariant = user;
            supervisorVariant = supervisor;
            cpu.jumps.clear(); // its keys tell user and supervisor code apart, not variants
        }
        variant = cpu.cpl == 3 ? user : supervisor;
        attend();
    }

    private static int variant(long control) {
        return (int) (control & Cet.SH_STK_EN) | ((control & Cet.ENDBR_EN) == 0 ? 0
                : (control & (Cet.LEG_IW_EN | Cet.SUPPRESS)) == 0 ? TRACKING : TRACKING | LEGACY);
    }

    /// IA32_U_CET or IA32_S_CET, whichever governs `cpl`.
    public long control(int cpl) {
        return cpl == 3 ? uCet : sCet;
    }

    private void control(long value) {
        if (cpu.cpl == 3) {
            uCet = value;
        } else {
            sCet = value;
        }
        attend();
    }

    /// Whether shadow stacks are enabled at `cpl`. [SDM Vol. 2 "Operation Section" ShadowStackEnabled]
    public boolean shadowStackEnabled(int cpl) {
        return (cpu.cr4 & Cr4.CET) != 0 && cpu.protectedMode() && !cpu.virtual8086() && (control(cpl) & Cet.SH_STK_EN) != 0;
    }

    /// Whether shadow stacks are enabled at `cpl` of a protected-mode program, to which an event in virtual-8086 mode goes too.
    public boolean shadowStackEnabledOutsideVirtual8086(int cpl) {
        return (cpu.cr4 & Cr4.CET) != 0 && cpu.protectedMode() && (control(cpl) & Cet.SH_STK_EN) != 0;
    }

    /// Whether indirect branches are tracked at `cpl`. [SDM Vol. 2 "Operation Section" EndbranchEnabled]
    public boolean endbranchEnabled(int cpl) {
        return (cpu.cr4 & Cr4.CET) != 0 && cpu.protectedMode() && !cpu.virtual8086() && (control(cpl) & Cet.ENDBR_EN) != 0;
    }

    // The tracker. [SDM Vol. 1 "Indirect Branch Tracking"]

    /// Whether the next instruction must be ENDBRANCH.
    public boolean waiting() {
        return (variant & TRACKING) != 0 && (control(cpu.cpl) & Cet.TRACKER) != 0;
    }

    private void attend() {
        if (waiting() != ((cpu.attention & ATTENTION) != 0)) {
            cpu.attention ^= ATTENTION;
        }
    }

    /// A near indirect CALL or JMP has been executed.
    void near(Instruction insn) {
        if ((variant & TRACKING) == 0) {
            return;
        }
        long control = control(cpu.cpl);
        boolean noTrack = insn.has(Instruction.PREFIX_NOTRACK) && (control & Cet.NO_TRACK_EN) != 0;
        if ((control & Cet.SUPPRESS) == 0 && !noTrack) {
            control(control | Cet.TRACKER);
        }
    }

    /// A near indirect CALL without NOTRACK where tracking cannot be suppressed.
    void near() {
        control(control(cpu.cpl) | Cet.TRACKER);
    }

    /// A far CALL or JMP, an interrupt, an exception, SYSCALL or SYSENTER has come to the current privilege level.
    public void far() {
        if (endbranchEnabled(cpu.cpl)) {
            control((control(cpu.cpl) | Cet.TRACKER) & ~Cet.SUPPRESS);
        }
    }

    /// ENDBR32 and ENDBR64: no operation in the other's mode, and where branches are not tracked.
    static void endBranch(Cpu cpu, Instruction insn) {
        if (insn.op == (cpu.is64Bit() ? Op.ENDBR64 : Op.ENDBR32)) {
            cpu.cet.arrived();
        }
    }

    /// ENDBRANCH of the mode.
    void arrived() {
        if ((variant & TRACKING) != 0) {
            control(control(cpu.cpl) & ~(Cet.TRACKER | Cet.SUPPRESS));
        }
    }

    /// Asks whether `insn`, which is next, may follow an indirect branch when the tracker waits. INT3 may, and leaves the tracker
    /// waiting, so that a debugger can replace ENDBRANCH. Throws #CP(ENDBRANCH).
    void check(Instruction insn) {
        if (!waiting() || insn.op == Op.INT3 || insn.op == (cpu.is64Bit() ? Op.ENDBR64 : Op.ENDBR32)) {
            return;
        }
        if (!legacyCode()) {
            throw cpu.fault(ExceptionVector.CP, Cet.CP_ENDBRANCH);
        }
        long control = control(cpu.cpl) & ~Cet.TRACKER;
        control((control & Cet.SUPPRESS_DIS) != 0 ? control : control | Cet.SUPPRESS);
    }

    /// Whether the bitmap says that the current page holds legacy code. A bit for each page; the bitmap is read with the rights of the
    /// current privilege level. [SDM Vol. 1 "Legacy Code Page Bitmap Format"]
    private boolean legacyCode() {
        long control = control(cpu.cpl);
        if ((control & Cet.LEG_IW_EN) == 0) {
            return false;
        }
        long linear = cpu.is64Bit() ? cpu.rip : (cpu.rip + cpu.segBase[Cpu.CS]) & 0xffff_ffffL;
        int unused = (cpu.cr4 & Cr4.LA57) != 0 ? 7 : 16;
        long at = (control & Cet.BITMAP_BASE) + (linear << unused >>> unused >>> 15);
        if (!cpu.is64Bit()) {
            at &= 0xffff_ffffL;
        } else if (!cpu.canonical(at)) {
            throw cpu.gp(0);
        }
        return ((cpu.read8(at) >>> ((linear >>> 12) & 7)) & 1) != 0;
    }

    // XSAVE components CET_U and CET_S

    /// Whether IA32_PL3_SSP and the like may hold `value`.
    public static boolean legalSsp(long value, int linearAddressBits) {
        int unused = 64 - linearAddressBits;
        return (value & 3) == 0 && value << unused >> unused == value;
    }
}
