package cloister.cpu.vmx;

import static cloister.spec.vmx.VmcsField.*;

import cloister.cpu.core.Cpu;
import cloister.cpu.core.ModelLimit;
import cloister.spec.vmx.Controls;
import cloister.spec.vmx.ExitReason;
import cloister.spec.vmx.GuestActivity;
import cloister.spec.vmx.Interruption;
import cloister.spec.vmx.VmcsField;
import cloister.spec.x86.Cr0;
import cloister.spec.x86.Cr4;
import cloister.spec.x86.Efer;
import cloister.spec.x86.ExceptionVector;
import cloister.spec.x86.Rflags;

/// Loads the guest-state area at VM entry and saves it at VM exit. [SDM Vol. 3 "Loading Guest State", "Saving Guest State"]
final class GuestState {
    /// CR0 bits that VM entry and exit leave alone: ET, NW, CD and the reserved ones.
    static final long CR0_KEPT = ~(Cr0.PE | Cr0.MP | Cr0.EM | Cr0.TS | Cr0.NE | Cr0.WP | Cr0.AM | Cr0.PG);
    private static final long BRANCH_TRACE = (1 << 6) | (1 << 7);
    private static final VmcsField[] SELECTOR = siblings(GUEST_ES_SELECTOR);
    private static final VmcsField[] BASE = siblings(GUEST_ES_BASE);
    private static final VmcsField[] LIMIT = siblings(GUEST_ES_LIMIT);
    private static final VmcsField[] RIGHTS = siblings(GUEST_ES_ACCESS_RIGHTS);

    private GuestState() {
    }

    private static VmcsField[] siblings(VmcsField es) {
        var fields = new VmcsField[8];
        for (int i = 0; i < 8; i++) {
            fields[i] = VmcsField.ofSegment(es, i);
        }
        return fields;
    }

    /// Loads registers; what depends on them (modes, TLB) is the caller's.
    static void load(Cpu cpu, Vmcs v) {
        cpu.cr0 = (cpu.cr0 & CR0_KEPT) | (v.read(GUEST_CR0) & ~CR0_KEPT) | Cr0.ET;
        cpu.cr3 = v.read(GUEST_CR3);
        cpu.cr4 = v.read(GUEST_CR4);
        if (v.has(VM_ENTRY_CONTROLS, Controls.ENTRY_LOAD_DEBUG_CONTROLS)) {
            cpu.dr7 = (v.read(GUEST_DR7) & ~0xd000L) | 0x400;
            cpu.debugctl = v.read(GUEST_DEBUGCTL);
            if ((cpu.debugctl & BRANCH_TRACE) == BRANCH_TRACE) {
                throw new ModelLimit("branch trace store enabled (IA32_DEBUGCTL.TR and BTS)");
            }
        }
        cpu.sysenterCs = v.read(GUEST_SYSENTER_CS);
        cpu.sysenterEsp = v.read(GUEST_SYSENTER_ESP);
        cpu.sysenterEip = v.read(GUEST_SYSENTER_EIP);
        loadEfer(cpu, v);
        if (v.has(VM_ENTRY_CONTROLS, Controls.ENTRY_LOAD_PAT)) {
            cpu.pat = v.read(GUEST_PAT);
        }
        if (v.has(VM_ENTRY_CONTROLS, Controls.ENTRY_LOAD_PKRS)) {
            cpu.pkrs = v.readInt(GUEST_PKRS);
        }
        if (v.has(VM_ENTRY_CONTROLS, Controls.ENTRY_LOAD_CET_STATE)) {
            cpu.cet.sCet = v.read(GUEST_S_CET);
            cpu.cet.ssp = v.read(GUEST_SSP);
            cpu.cet.interruptSspTable = v.read(GUEST_INTERRUPT_SSP_TABLE);
        }
        if (v.has(VM_ENTRY_CONTROLS, Controls.ENTRY_LOAD_PERF_GLOBAL_CTRL)) {
            cpu.msrs.perfGlobalControl(v.read(GUEST_PERF_GLOBAL_CTRL));
        }
        for (int i = 0; i < 8; i++) {
            cpu.segSelector[i] = v.readInt(SELECTOR[i]);
            cpu.segBase[i] = v.read(BASE[i]);
            cpu.segLimit[i] = v.readInt(LIMIT[i]);
            cpu.segAr[i] = v.readInt(RIGHTS[i]);
        }
        cpu.cpl = (cpu.segAr[Cpu.SS] >>> 5) & 3;
        cpu.gdtrBase = v.read(GUEST_GDTR_BASE);
        cpu.gdtrLimit = v.readInt(GUEST_GDTR_LIMIT);
        cpu.idtrBase = v.read(GUEST_IDTR_BASE);
        cpu.idtrLimit = v.readInt(GUEST_IDTR_LIMIT);
        cpu.r[Cpu.RSP] = v.read(GUEST_RSP);
        cpu.rip = v.read(GUEST_RIP);
        cpu.nextRip = cpu.rip;
        cpu.rflags(v.read(GUEST_RFLAGS));
        loadNonRegister(cpu, v);
        loadPdptes(cpu, v);
    }

    private static void loadEfer(Cpu cpu, Vmcs v) {
        if (v.has(VM_ENTRY_CONTROLS, Controls.ENTRY_LOAD_EFER)) {
            cpu.efer = v.read(GUEST_EFER);
            return;
        }
        boolean ia32e = v.has(VM_ENTRY_CONTROLS, Controls.ENTRY_IA32E_MODE_GUEST);
        cpu.efer = ia32e ? cpu.efer | Efer.LMA : cpu.efer & ~Efer.LMA;
        if ((cpu.cr0 & Cr0.PG) != 0) {
            cpu.efer = ia32e ? cpu.efer | Efer.LME : cpu.efer & ~Efer.LME;
        }
    }

    private static void loadNonRegister(Cpu cpu, Vmcs v) {
        int blocked = v.readInt(GUEST_INTERRUPTIBILITY_STATE);
        boolean sti = (blocked & GuestActivity.BLOCKING_BY_STI) != 0;
        boolean movSs = (blocked & GuestActivity.BLOCKING_BY_MOV_SS) != 0;
        cpu.shadowAt = sti || movSs ? cpu.retired : -1;
        cpu.shadowKind = movSs ? Cpu.SHADOW_MOV_SS : Cpu.SHADOW_STI;
        cpu.events.activity = v.readInt(GUEST_ACTIVITY_STATE);
        cpu.events.pendingDebug = v.read(GUEST_PENDING_DEBUG_EXCEPTIONS);
        boolean vpid = secondary(v, Controls.PROC2_ENABLE_VPID);
        cpu.vpid = vpid ? v.readInt(VPID) : 0;
        cpu.eptp = secondary(v, Controls.PROC2_ENABLE_EPT) ? v.read(EPTP) : 0;
    }

    private static boolean secondary(Vmcs v, int control) {
        return v.has(PROC_BASED_CONTROLS, Controls.PROC_SECONDARY_CONTROLS) && v.has(SECONDARY_PROC_BASED_CONTROLS, control);
    }

    private static boolean paePaging(Cpu cpu) {
        return (cpu.cr0 & Cr0.PG) != 0 && (cpu.cr4 & Cr4.PAE) != 0 && (cpu.efer & Efer.LMA) == 0;
    }

    private static void loadPdptes(Cpu cpu, Vmcs v) {
        if (!paePaging(cpu)) {
            return;
        }
        if (cpu.eptp != 0) {
            cpu.pdpte[0] = v.read(GUEST_PDPTE0);
            cpu.pdpte[1] = v.read(GUEST_PDPTE1);
            cpu.pdpte[2] = v.read(GUEST_PDPTE2);
            cpu.pdpte[3] = v.read(GUEST_PDPTE3);
        } else {
            for (int i = 0; i < 4; i++) {
                cpu.pdpte[i] = cpu.readPhysical((cpu.cr3 & 0xffff_ffe0L) + 8 * i, 8);
            }
        }
    }

    /// Saves everything that the controls of `v` ask for.
    static void save(Cpu cpu, Vmcs v, Vmx vmx) {
        v.write(GUEST_CR0, cpu.cr0);
        v.write(GUEST_CR3, cpu.cr3);
        v.write(GUEST_CR4, cpu.cr4);
        v.write(GUEST_SYSENTER_CS, cpu.sysenterCs);
        v.write(GUEST_SYSENTER_ESP, cpu.sysenterEsp);
        v.write(GUEST_SYSENTER_EIP, cpu.sysenterEip);
        v.write(GUEST_S_CET, cpu.cet.sCet);
        v.write(GUEST_SSP, cpu.cet.ssp);
        v.write(GUEST_INTERRUPT_SSP_TABLE, cpu.cet.interruptSspTable);
        int exit = v.readInt(VM_EXIT_CONTROLS);
        if ((exit & Controls.EXIT_SAVE_DEBUG_CONTROLS) != 0) {
            v.write(GUEST_DR7, cpu.dr7);
            v.write(GUEST_DEBUGCTL, cpu.debugctl);
        }
        if ((exit & Controls.EXIT_SAVE_PAT) != 0) {
            v.write(GUEST_PAT, cpu.pat);
        }
        if ((exit & Controls.EXIT_SAVE_EFER) != 0) {
            v.write(GUEST_EFER, cpu.efer);
        }
        if ((exit & Controls.EXIT_SAVE_PERF_GLOBAL_CTRL) != 0) {
            v.write(GUEST_PERF_GLOBAL_CTRL, cpu.msrs.perfGlobalControl());
        }
        if ((exit & Controls.EXIT_SAVE_PREEMPTION_TIMER) != 0) {
            v.write(PREEMPTION_TIMER_VALUE, vmx.boundary.timerValue());
        }
        if (v.has(VM_ENTRY_CONTROLS, Controls.ENTRY_LOAD_PKRS)) {
            v.write(GUEST_PKRS, cpu.pkrs);
        }
        int entry = v.readInt(VM_ENTRY_CONTROLS) & ~Controls.ENTRY_IA32E_MODE_GUEST;
        v.write(VM_ENTRY_CONTROLS, (cpu.efer & Efer.LMA) != 0 ? entry | Controls.ENTRY_IA32E_MODE_GUEST : entry);
        for (int i = 0; i < 8; i++) {
            v.write(SELECTOR[i], cpu.segSelector[i]);
            v.write(BASE[i], cpu.segBase[i]);
            v.write(LIMIT[i], cpu.segLimit[i]);
            v.write(RIGHTS[i], cpu.segAr[i]);
        }
        v.write(GUEST_GDTR_BASE, cpu.gdtrBase);
        v.write(GUEST_GDTR_LIMIT, cpu.gdtrLimit);
        v.write(GUEST_IDTR_BASE, cpu.idtrBase);
        v.write(GUEST_IDTR_LIMIT, cpu.idtrLimit);
        v.write(GUEST_RSP, cpu.r[Cpu.RSP]);
        v.write(GUEST_RIP, cpu.rip);
        v.write(GUEST_RFLAGS, savedFlags(cpu, v));
        saveNonRegister(cpu, v, vmx);
    }

    /// RFLAGS with RF as the exit's cause wants it. [SDM Vol. 3 "Saving RIP, RSP, RFLAGS, and SSP"]
    private static long savedFlags(Cpu cpu, Vmcs v) {
        long flags = cpu.rflags();
        boolean delivering = v.read(IDT_VECTORING_INFO) != 0;
        boolean faults = switch (ExitReason.basic(v.readInt(EXIT_REASON))) {
            case ExitReason.EXCEPTION_OR_NMI -> isFault(v.readInt(EXIT_INTERRUPTION_INFO));
            case ExitReason.EPT_VIOLATION, ExitReason.EPT_MISCONFIGURATION, ExitReason.APIC_ACCESS, ExitReason.PML_FULL ->
                !delivering || isFault(v.readInt(IDT_VECTORING_INFO));
            case ExitReason.TASK_SWITCH -> isFault(v.readInt(IDT_VECTORING_INFO));
            default -> false;
        };
        return faults ? flags | Rflags.RF : flags;
    }

    /// An exception whose saved RFLAGS image has RF set.
    private static boolean isFault(int info) {
        return ((info >>> 8) & 7) == Interruption.HARDWARE_EXCEPTION && (info & 0xff) != ExceptionVector.DB;
    }

    private static void saveNonRegister(Cpu cpu, Vmcs v, Vmx vmx) {
        int blocked = switch (cpu.shadow()) {
            case Cpu.SHADOW_STI -> GuestActivity.BLOCKING_BY_STI;
            case Cpu.SHADOW_MOV_SS -> GuestActivity.BLOCKING_BY_MOV_SS;
            default -> 0;
        };
        if (vmx.boundary.virtualNmiBlocked || cpu.events.nmiBlocked) {
            blocked |= GuestActivity.BLOCKING_BY_NMI;
        }
        v.write(GUEST_INTERRUPTIBILITY_STATE, blocked);
        v.write(GUEST_ACTIVITY_STATE, cpu.events.activity);
        v.write(GUEST_PENDING_DEBUG_EXCEPTIONS, cpu.events.pendingDebug);
        if (cpu.eptp != 0 && paePaging(cpu)) {
            v.write(GUEST_PDPTE0, cpu.pdpte[0]);
            v.write(GUEST_PDPTE1, cpu.pdpte[1]);
            v.write(GUEST_PDPTE2, cpu.pdpte[2]);
            v.write(GUEST_PDPTE3, cpu.pdpte[3]);
        }
    }
}
