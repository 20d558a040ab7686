package cloister.cpu.vmx;

import static cloister.spec.vmx.VmcsField.*;

import cloister.cpu.core.Cpu;
import cloister.spec.vmx.Controls;
import cloister.spec.x86.Cr0;
import cloister.spec.x86.Cr4;
import cloister.spec.x86.Efer;

/// The SEAM transfer VMCS of a logical processor: SEAMCALL saves the VMM's state into its guest area and loads its host area;
/// SEAMRET loads the guest area. [TDX-CPU "SEAM transfer VMCS"]
public final class SeamTransfer {
    private static final int CODE = 0x8;
    private static final int DATA = 0x10;
    private static final int TSS = 0x18;
    private static final long PAT = 0x0000_0000_0000_0006L;

    private SeamTransfer() {
    }

    /// A transfer VMCS whose host area is what the SEAM loader gives the module: 64-bit mode, paging.
    public static Vmcs create() {
        var v = new Vmcs(0);
        v.write(HOST_CR0, Cr0.PE | Cr0.MP | Cr0.ET | Cr0.NE | Cr0.WP | Cr0.AM | Cr0.PG);
        v.write(HOST_CR3, 0x1000);
        v.write(HOST_CR4, Cr4.PAE | Cr4.PGE | Cr4.MCE | Cr4.OSFXSR | Cr4.OSXMMEXCPT | Cr4.VMXE | Cr4.FSGSBASE | Cr4.OSXSAVE
                | Cr4.SMEP | Cr4.SMAP);
        v.write(HOST_EFER, Efer.LME | Efer.LMA | Efer.NXE | Efer.SCE);
        v.write(HOST_PAT, PAT);
        v.write(HOST_CS_SELECTOR, CODE);
        v.write(HOST_SS_SELECTOR, DATA);
        v.write(HOST_TR_SELECTOR, TSS);
        v.write(HOST_RIP, 0xffff_8000_0000_1000L);
        v.write(HOST_RSP, 0xffff_8000_0001_0000L);
        v.write(VM_EXIT_CONTROLS, Controls.EXIT_DEFAULT1 | Controls.EXIT_HOST_ADDRESS_SPACE_SIZE | Controls.EXIT_LOAD_EFER
                | Controls.EXIT_LOAD_PAT | Controls.EXIT_LOAD_CET_STATE);
        return v;
    }

    /// SEAMCALL: the VMM's state goes to the guest area; the module's is loaded.
    public static void enter(Cpu cpu, Vmcs v) {
        v.write(GUEST_CR0, cpu.cr0);
        v.write(GUEST_CR3, cpu.cr3);
        v.write(GUEST_CR4, cpu.cr4);
        v.write(GUEST_EFER, cpu.efer);
        v.write(GUEST_PAT, cpu.pat);
        v.write(GUEST_DR7, cpu.dr7);
        v.write(GUEST_DEBUGCTL, cpu.debugctl);
        v.write(GUEST_PERF_GLOBAL_CTRL, cpu.msrs.perfGlobalControl());
        v.write(GUEST_SYSENTER_CS, cpu.sysenterCs);
        v.write(GUEST_SYSENTER_ESP, cpu.sysenterEsp);
        v.write(GUEST_SYSENTER_EIP, cpu.sysenterEip);
        v.write(GUEST_S_CET, cpu.cet.sCet);
        v.write(GUEST_SSP, cpu.cet.ssp);
        v.write(GUEST_INTERRUPT_SSP_TABLE, cpu.cet.interruptSspTable);
        v.write(GUEST_FS_BASE, cpu.segBase[Cpu.FS]);
        v.write(GUEST_GS_BASE, cpu.segBase[Cpu.GS]);
        v.write(GUEST_GDTR_BASE, cpu.gdtrBase);
        v.write(GUEST_IDTR_BASE, cpu.idtrBase);
        v.write(GUEST_RFLAGS, cpu.rflags());
        HostState.load(cpu, v);
    }

    /// SEAMRET: back to the VMM's state, as the module may have changed it.
    public static void leave(Cpu cpu, Vmcs v) {
        cpu.cr0 = v.read(GUEST_CR0);
        cpu.cr3 = v.read(GUEST_CR3);
        cpu.cr4 = v.read(GUEST_CR4);
        cpu.efer = v.read(GUEST_EFER);
        cpu.pat = v.read(GUEST_PAT);
        cpu.dr7 = v.read(GUEST_DR7);
        cpu.debugctl = v.read(GUEST_DEBUGCTL);
        cpu.msrs.perfGlobalControl(v.read(GUEST_PERF_GLOBAL_CTRL));
        cpu.sysenterCs = v.read(GUEST_SYSENTER_CS);
        cpu.sysenterEsp = v.read(GUEST_SYSENTER_ESP);
        cpu.sysenterEip = v.read(GUEST_SYSENTER_EIP);
        cpu.cet.sCet = v.read(GUEST_S_CET);
        cpu.cet.ssp = v.read(GUEST_SSP);
        cpu.cet.interruptSspTable = v.read(GUEST_INTERRUPT_SSP_TABLE);
        cpu.segBase[Cpu.FS] = v.read(GUEST_FS_BASE);
        cpu.segBase[Cpu.GS] = v.read(GUEST_GS_BASE);
        cpu.gdtrBase = v.read(GUEST_GDTR_BASE);
        cpu.idtrBase = v.read(GUEST_IDTR_BASE);
        cpu.rflags(v.read(GUEST_RFLAGS));
    }
}
