package cloister.cpu.vmx;

import static cloister.spec.vmx.VmcsField.*;

import cloister.cpu.core.Cpu;
import cloister.cpu.sys.Msrs;
import cloister.spec.vmx.Controls;
import cloister.spec.vmx.ExitQualification;
import cloister.spec.vmx.GuestActivity;
import cloister.spec.vmx.Interruption;
import cloister.spec.vmx.VmcsField;
import cloister.spec.x86.Cr0;
import cloister.spec.x86.Cr4;
import cloister.spec.x86.Efer;
import cloister.spec.x86.ExceptionVector;
import cloister.spec.x86.Rflags;

/// The checks of VM entry on the guest-state area; a failure is a VM exit. [SDM Vol. 3 "Checks on the Guest State Area"]
final class GuestStateChecks {
    /// All is well.
    static final int PASSED = -1;
    private static final int FAILED = 0;

    private static final int ES = 0;
    private static final int CS = 1;
    private static final int SS = 2;
    private static final int LDTR = 6;
    private static final int TR = 7;
    private static final int UNUSABLE = 1 << 16;
    private static final long PHYSICAL = 0x000f_ffff_ffff_ffffL;
    private static final long PAE_PDPTE_RESERVED = 0xfff0_0000_0000_01e6L;

    private final Vmcs v;
    private final Cpu cpu;
    private final boolean unrestricted;
    private final boolean ia32e;
    private final boolean v86;
    private final long cr0;
    private final long cr4;

    GuestStateChecks(Vmcs vmcs, Cpu cpu) {
        this.v = vmcs;
        this.cpu = cpu;
        this.unrestricted = v.has(SECONDARY_PROC_BASED_CONTROLS, Controls.PROC2_UNRESTRICTED_GUEST)
                && v.has(PROC_BASED_CONTROLS, Controls.PROC_SECONDARY_CONTROLS);
        this.ia32e = v.has(VM_ENTRY_CONTROLS, Controls.ENTRY_IA32E_MODE_GUEST);
        this.v86 = (v.read(GUEST_RFLAGS) & Rflags.VM) != 0;
        this.cr0 = v.read(GUEST_CR0);
        this.cr4 = v.read(GUEST_CR4);
    }

    /// [#PASSED], or the exit qualification of the failure.
    int check() {
        if (!controlRegisters() || !msrs() || !segments() || !descriptorTables() || !ripAndRflags()) {
            return FAILED;
        }
        int nonRegister = nonRegisterState();
        return nonRegister != PASSED ? nonRegister : pdptes();
    }

    private boolean entry(int control) {
        return v.has(VM_ENTRY_CONTROLS, control);
    }

    /// [SDM Vol. 3 "Checks on Guest Control Registers, Debug Registers, and MSRs"]
    private boolean controlRegisters() {
        long fixed = unrestricted ? VmxCapabilities.CR0_FIXED0 & ~(Cr0.PE | Cr0.PG) : VmxCapabilities.CR0_FIXED0;
        boolean pg = (cr0 & Cr0.PG) != 0;
        boolean pae = (cr4 & Cr4.PAE) != 0;
        return (cr0 & fixed) == fixed && (cr0 & ~VmxCapabilities.CR0_FIXED1) == 0
                && (!pg || (cr0 & Cr0.PE) != 0) && ControlChecks.cet(cr0, cr4)
                && (cr4 & VmxCapabilities.CR4_FIXED0) == VmxCapabilities.CR4_FIXED0 && (cr4 & ~VmxCapabilities.CR4_FIXED1) == 0
                && (ia32e ? pg && pae : (cr4 & Cr4.PCIDE) == 0)
                && (ept() ? (v.read(GUEST_CR3) & ~PHYSICAL) == 0 : ControlChecks.usable(cpu, v, v.read(GUEST_CR3)))
                && (!entry(Controls.ENTRY_LOAD_DEBUG_CONTROLS) || v.read(GUEST_DR7) >>> 32 == 0);
    }

    private boolean msrs() {
        if (!canonical(GUEST_SYSENTER_ESP) || !canonical(GUEST_SYSENTER_EIP)) {
            return false;
        }
        if (entry(Controls.ENTRY_LOAD_PAT) && !ControlChecks.pat(v.read(GUEST_PAT))) {
            return false;
        }
        if (entry(Controls.ENTRY_LOAD_CET_STATE) && !cetState()) {
            return false;
        }
        if (!entry(Controls.ENTRY_LOAD_EFER)) {
            return true;
        }
        long efer = v.read(GUEST_EFER);
        boolean lma = (efer & Efer.LMA) != 0;
        boolean lme = (efer & Efer.LME) != 0;
        return (efer & ~(Efer.SCE | Efer.LME | Efer.LMA | Efer.NXE)) == 0 && lma == ia32e
                && ((cr0 & Cr0.PG) == 0 || lma == lme);
    }

    /// Outside IA-32e mode IA32_S_CET and SSP are 32 bits wide.
    private boolean cetState() {
        long sCet = v.read(GUEST_S_CET);
        long ssp = v.read(GUEST_SSP);
        return ControlChecks.cetState(sCet, ssp, v.read(GUEST_INTERRUPT_SSP_TABLE), cr4) && (ia32e || (sCet | ssp) >>> 32 == 0);
    }

    /// By the processor's widest linear addresses, as WRMSR checks it: what a guest may load must not fail its next VM entry.
    private boolean canonical(VmcsField field) {
        return Msrs.canonical(v.read(field));
    }

    // --- [SDM Vol. 3 "Checks on Guest Segment Registers"]

    private int selector(int segment) {
        return v.readInt(VmcsField.ofSegment(GUEST_ES_SELECTOR, segment));
    }

    private long base(int segment) {
        return v.read(VmcsField.ofSegment(GUEST_ES_BASE, segment));
    }

    private long limit(int segment) {
        return v.read(VmcsField.ofSegment(GUEST_ES_LIMIT, segment));
    }

    private int rights(int segment) {
        return v.readInt(VmcsField.ofSegment(GUEST_ES_ACCESS_RIGHTS, segment));
    }

    private boolean usable(int segment) {
        return (rights(segment) & UNUSABLE) == 0;
    }

    private int dpl(int segment) {
        return (rights(segment) >>> 5) & 3;
    }

    private boolean segments() {
        if ((selector(TR) & 4) != 0 || (usable(LDTR) && (selector(LDTR) & 4) != 0)) {
            return false;
        }
        if (!v86 && !unrestricted && (selector(SS) & 3) != (selector(CS) & 3)) {
            return false;
        }
        if (!bases()) {
            return false;
        }
        for (int segment = ES; segment <= 5; segment++) {
            if (v86 ? !virtual8086(segment) : segment == CS ? !code() : usable(segment) && !data(segment)) {
                return false;
            }
        }
        return (v86 || stackPrivilege()) && systemSegments();
    }

    private boolean bases() {
        if (!canonical(GUEST_TR_BASE) || !canonical(GUEST_FS_BASE) || !canonical(GUEST_GS_BASE)
                || (usable(LDTR) && !canonical(GUEST_LDTR_BASE)) || base(CS) >>> 32 != 0) {
            return false;
        }
        for (int segment : new int[] {ES, SS, 3}) {
            if (usable(segment) && base(segment) >>> 32 != 0) {
                return false;
            }
        }
        return true;
    }

    private boolean virtual8086(int segment) {
        return base(segment) == (long) selector(segment) << 4 && limit(segment) == 0xffff && rights(segment) == 0xf3;
    }

    private boolean code() {
        int ar = rights(CS);
        int type = ar & 15;
        boolean typeFits = type == 9 || type == 11 || type == 13 || type == 15 || (unrestricted && type == 3);
        boolean dplFits = switch (type) {
            case 3 -> dpl(CS) == 0;
            case 9, 11 -> dpl(CS) == dpl(SS);
            default -> dpl(CS) <= dpl(SS);
        };
        boolean longMode = (ar & (1 << 13)) != 0;
        return usable(CS) && typeFits && dplFits && common(CS) && !(ia32e && longMode && (ar & (1 << 14)) != 0);
    }

    private boolean data(int segment) {
        int type = rights(segment) & 15;
        if (segment == SS) {
            return (type == 3 || type == 7) && common(segment);
        }
        boolean typeFits = (type & 1) != 0 && ((type & 8) == 0 || (type & 2) != 0);
        boolean dplFits = unrestricted || type > 11 || dpl(segment) >= (selector(segment) & 3);
        return typeFits && dplFits && common(segment);
    }

    private boolean stackPrivilege() {
        if (!unrestricted && dpl(SS) != (selector(SS) & 3)) {
            return false;
        }
        boolean mustBeZero = (rights(CS) & 15) == 3 || (cr0 & Cr0.PE) == 0;
        return !mustBeZero || dpl(SS) == 0;
    }

    /// S, P, reserved bits, granularity.
    private boolean common(int segment) {
        int ar = rights(segment);
        return (ar & 0x90) == 0x90 && (ar & 0xfffe_0f00) == 0 && granularity(segment);
    }

    private boolean granularity(int segment) {
        boolean g = (rights(segment) & (1 << 15)) != 0;
        long limit = limit(segment);
        return ((limit & 0xfff) == 0xfff || !g) && (limit >>> 20 == 0 || g);
    }

    private boolean systemSegments() {
        int tr = rights(TR);
        boolean trType = (tr & 15) == 11 || (!ia32e && (tr & 15) == 3);
        boolean trFits = trType && (tr & 0x90) == 0x80 && (tr & 0xffff_0f00) == 0 && granularity(TR);
        int ldtr = rights(LDTR);
        boolean ldtrFits = !usable(LDTR)
                || ((ldtr & 0x9f) == 0x82 && (ldtr & 0xfffe_0f00) == 0 && granularity(LDTR));
        return trFits && ldtrFits;
    }

    /// [SDM Vol. 3 "Checks on Guest Descriptor-Table Registers"]
    private boolean descriptorTables() {
        return canonical(GUEST_GDTR_BASE) && canonical(GUEST_IDTR_BASE) && v.read(GUEST_GDTR_LIMIT) <= 0xffff
                && v.read(GUEST_IDTR_LIMIT) <= 0xffff;
    }

    /// [SDM Vol. 3 "Checks on Guest RIP, RFLAGS, and SSP"]
    private boolean ripAndRflags() {
        long rip = v.read(GUEST_RIP);
        boolean longCode = ia32e && (rights(CS) & (1 << 13)) != 0;
        if (longCode ? !ControlChecks.canonical(rip, cr4) : rip >>> 32 != 0) {
            return false;
        }
        long rflags = v.read(GUEST_RFLAGS);
        if ((rflags & ~Rflags.DEFINED) != 0 || (rflags & Rflags.FIXED_1) == 0) {
            return false;
        }
        if (v86 && (ia32e || (cr0 & Cr0.PE) == 0)) {
            return false;
        }
        return !injects(Interruption.EXTERNAL) || (rflags & Rflags.IF) != 0;
    }

    private boolean injects(int type) {
        int info = v.readInt(ENTRY_INTERRUPTION_INFO);
        return Interruption.valid(info) && Interruption.type(info) == type;
    }

    /// [SDM Vol. 3 "Checks on Guest Non-Register State"]
    private int nonRegisterState() {
        int activity = v.readInt(GUEST_ACTIVITY_STATE);
        int blocked = v.readInt(GUEST_INTERRUPTIBILITY_STATE);
        boolean sti = (blocked & GuestActivity.BLOCKING_BY_STI) != 0;
        boolean movSs = (blocked & GuestActivity.BLOCKING_BY_MOV_SS) != 0;
        if (Integer.compareUnsigned(activity, GuestActivity.WAIT_FOR_SIPI) > 0
                || (activity == GuestActivity.HLT && dpl(SS) != 0)
                || ((sti || movSs) && activity != GuestActivity.ACTIVE) || !eventFits(activity)) {
            return FAILED;
        }
        if ((blocked & ~0xf) != 0 || (sti && movSs) || (sti && (v.read(GUEST_RFLAGS) & Rflags.IF) == 0)
                || (blocked & GuestActivity.BLOCKING_BY_SMI) != 0) {
            return FAILED;
        }
        if (injects(Interruption.EXTERNAL) && (sti || movSs)) {
            return FAILED;
        }
        if (injects(Interruption.NMI) && (movSs || (v.has(PIN_BASED_CONTROLS, Controls.PIN_VIRTUAL_NMIS)
                && (blocked & GuestActivity.BLOCKING_BY_NMI) != 0))) {
            return movSs ? ExitQualification.ENTRY_FAILURE_NMI_INJECTION : FAILED;
        }
        if (!pendingDebug(sti || movSs || activity == GuestActivity.HLT)) {
            return FAILED;
        }
        return v.read(VMCS_LINK_POINTER) == -1 ? PASSED : ExitQualification.ENTRY_FAILURE_LINK_POINTER;
    }

    /// Which events can be injected into an inactive guest.
    private boolean eventFits(int activity) {
        int info = v.readInt(ENTRY_INTERRUPTION_INFO);
        if (!Interruption.valid(info)) {
            return true;
        }
        int type = Interruption.type(info);
        int vector = Interruption.vector(info);
        boolean hardware = type == Interruption.HARDWARE_EXCEPTION;
        return switch (activity) {
            case GuestActivity.ACTIVE -> true;
            case GuestActivity.HLT -> type == Interruption.EXTERNAL || type == Interruption.NMI
                    || (hardware && (vector == ExceptionVector.DB || vector == ExceptionVector.MC))
                    || type == Interruption.OTHER_EVENT;
            case GuestActivity.SHUTDOWN -> type == Interruption.NMI || (hardware && vector == ExceptionVector.MC);
            default -> false;
        };
    }

    private boolean pendingDebug(boolean blocking) {
        long pending = v.read(GUEST_PENDING_DEBUG_EXCEPTIONS);
        long defined = GuestActivity.PENDING_B0_B3 | GuestActivity.PENDING_BUS_LOCK | GuestActivity.PENDING_ENABLED_BREAKPOINT
                | GuestActivity.PENDING_BS | GuestActivity.PENDING_RTM;
        if ((pending & ~defined) != 0) {
            return false;
        }
        boolean steps = (v.read(GUEST_RFLAGS) & Rflags.TF) != 0 && (v.read(GUEST_DEBUGCTL) & 2) == 0;
        return !blocking || steps == ((pending & GuestActivity.PENDING_BS) != 0);
    }

    /// [SDM Vol. 3 "Checks on Guest Page-Directory-Pointer-Table Entries"]
    private int pdptes() {
        boolean pae = (cr0 & Cr0.PG) != 0 && (cr4 & Cr4.PAE) != 0 && !ia32e;
        if (!pae) {
            return PASSED;
        }
        if (ept()) {
            return pdpte(v.read(GUEST_PDPTE0)) && pdpte(v.read(GUEST_PDPTE1)) && pdpte(v.read(GUEST_PDPTE2))
                    && pdpte(v.read(GUEST_PDPTE3)) ? PASSED : ExitQualification.ENTRY_FAILURE_PDPTE;
        }
        for (int i = 0; i < 4; i++) {
            long entry = cpu.readPhysical((v.read(GUEST_CR3) & 0xffff_ffe0L) + (8L * i), 8);
            if (!pdpte(entry) || ((entry & 1) != 0 && cpu.memory.isPrivate(entry))) {
                return ExitQualification.ENTRY_FAILURE_PDPTE;
            }
        }
        return PASSED;
    }

    private static boolean pdpte(long entry) {
        return (entry & 1) == 0 || (entry & PAE_PDPTE_RESERVED) == 0;
    }

    private boolean ept() {
        return v.has(SECONDARY_PROC_BASED_CONTROLS, Controls.PROC2_ENABLE_EPT)
                && v.has(PROC_BASED_CONTROLS, Controls.PROC_SECONDARY_CONTROLS);
    }
}
