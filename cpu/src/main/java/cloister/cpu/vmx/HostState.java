package cloister.cpu.vmx;

import static cloister.spec.vmx.VmcsField.*;

import cloister.cpu.core.Cpu;
import cloister.cpu.sys.PendingEvents;
import cloister.spec.vmx.Controls;
import cloister.spec.x86.Efer;

/// Loads the host-state area at VM exit. [SDM Vol. 3 "Loading Host State"]
///
/// Hosts are programs of the simulator, not interpreted code: modes and translations need no recomputation until the next VM entry.
final class HostState {
    private static final int CODE_RIGHTS = 0xa09b;
    private static final int DATA_RIGHTS = 0xc093;
    private static final int TSS_RIGHTS = 0x8b;

    private HostState() {
    }

    static void load(Cpu cpu, Vmcs v) {
        cpu.cr0 = (cpu.cr0 & GuestState.CR0_KEPT) | (v.read(HOST_CR0) & ~GuestState.CR0_KEPT);
        cpu.cr3 = v.read(HOST_CR3);
        cpu.cr4 = v.read(HOST_CR4);
        cpu.dr7 = 0x400;
        cpu.debugctl = 0;
        cpu.sysenterCs = v.read(HOST_SYSENTER_CS);
        cpu.sysenterEsp = v.read(HOST_SYSENTER_ESP);
        cpu.sysenterEip = v.read(HOST_SYSENTER_EIP);
        int exit = v.readInt(VM_EXIT_CONTROLS);
        cpu.efer = (exit & Controls.EXIT_LOAD_EFER) != 0 ? v.read(HOST_EFER) : cpu.efer | Efer.LMA | Efer.LME;
        if ((exit & Controls.EXIT_LOAD_PAT) != 0) {
            cpu.pat = v.read(HOST_PAT);
        }
        if ((exit & Controls.EXIT_LOAD_PERF_GLOBAL_CTRL) != 0) {
            cpu.msrs.perfGlobalControl(v.read(HOST_PERF_GLOBAL_CTRL));
        }
        if ((exit & Controls.EXIT_LOAD_PKRS) != 0) {
            cpu.pkrs = v.readInt(HOST_PKRS);
        }
        if ((exit & Controls.EXIT_LOAD_CET_STATE) != 0) {
            cpu.cet.sCet = v.read(HOST_S_CET);
            cpu.cet.ssp = v.read(HOST_SSP);
            cpu.cet.interruptSspTable = v.read(HOST_INTERRUPT_SSP_TABLE);
        }
        segments(cpu, v);
        cpu.gdtrBase = v.read(HOST_GDTR_BASE);
        cpu.gdtrLimit = 0xffff;
        cpu.idtrBase = v.read(HOST_IDTR_BASE);
        cpu.idtrLimit = 0xffff;
        cpu.r[Cpu.RSP] = v.read(HOST_RSP);
        cpu.rip = v.read(HOST_RIP);
        cpu.nextRip = cpu.rip;
        cpu.rflags(2);
        cpu.cpl = 0;
        cpu.shadowAt = -1;
        cpu.vpid = 0;
        cpu.eptp = 0;
        cpu.events.activity = PendingEvents.ACTIVE;
        cpu.events.pendingDebug = 0;
    }

    private static void segments(Cpu cpu, Vmcs v) {
        load(cpu, Cpu.CS, v.readInt(HOST_CS_SELECTOR), 0, -1, CODE_RIGHTS);
        load(cpu, Cpu.SS, v.readInt(HOST_SS_SELECTOR), 0, -1, DATA_RIGHTS);
        load(cpu, Cpu.DS, v.readInt(HOST_DS_SELECTOR), 0, -1, DATA_RIGHTS);
        load(cpu, Cpu.ES, v.readInt(HOST_ES_SELECTOR), 0, -1, DATA_RIGHTS);
        load(cpu, Cpu.FS, v.readInt(HOST_FS_SELECTOR), v.read(HOST_FS_BASE), -1, DATA_RIGHTS);
        load(cpu, Cpu.GS, v.readInt(HOST_GS_SELECTOR), v.read(HOST_GS_BASE), -1, DATA_RIGHTS);
        load(cpu, Cpu.TR, v.readInt(HOST_TR_SELECTOR), v.read(HOST_TR_BASE), 0x67, TSS_RIGHTS);
        load(cpu, Cpu.LDTR, 0, 0, 0, Cpu.AR_UNUSABLE);
    }

    private static void load(Cpu cpu, int segment, int selector, long base, int limit, int rights) {
        cpu.segSelector[segment] = selector;
        cpu.segBase[segment] = base;
        cpu.segLimit[segment] = limit;
        boolean nullable = segment != Cpu.CS && segment != Cpu.TR && segment != Cpu.LDTR;
        cpu.segAr[segment] = nullable && selector == 0 ? rights | Cpu.AR_UNUSABLE : rights;
    }
}
