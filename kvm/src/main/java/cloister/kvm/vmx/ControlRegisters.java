package cloister.kvm.vmx;

import static cloister.spec.vmx.VmcsField.*;

import cloister.kvm.KvmException;
import cloister.kvm.KvmSregs;
import cloister.kvm.emulate.GuestGp;
import cloister.sim.Persistent;
import cloister.sim.StateSink;
import cloister.spec.vmx.Controls;
import cloister.spec.vmx.Ept;
import cloister.spec.vmx.VmcsField;
import cloister.spec.x86.Cr0;
import cloister.spec.x86.Cr4;
import cloister.spec.x86.Efer;

/// CR0, CR4 and EFER of an ordinary VM's vCPU: which bits the guest owns, what the others do. [LINUX vmx_set_cr0,
/// vmx_set_cr4, vmx_set_efer]
final class ControlRegisters implements Persistent {
    private static final long CR0_GUEST_OWNED = Cr0.TS;
    private static final long CR4_GUEST_OWNED = Cr4.PVI | Cr4.DE | Cr4.PCE | Cr4.OSFXSR | Cr4.OSXMMEXCPT | Cr4.PGE | Cr4.TSD
            | Cr4.FSGSBASE;
    private static final long CR0_ALWAYS_ON = Cr0.NE;
    private static final long CR0_ALWAYS_OFF = Cr0.NW | Cr0.CD;
    private static final long CR4_NEVER = Cr4.VMXE | Cr4.SMXE | Cr4.PKS | Cr4.UINTR | Cr4.KL | Cr4.LASS
            | Cr4.LAM_SUP;
    private static final int IA32_VMX_CR4_FIXED1 = 0x489;
    private static final long PCID_MASK = 0xfff;
    private static final long CR3_NO_FLUSH = 1L << 63;
    private static final long PDPTE_RESERVED = 0xfff0_0000_0000_01e6L;
    private static final long EFER_DEFINED = Efer.SCE | Efer.LME | Efer.LMA | Efer.NXE;

    /// Without EPT the processor pages always, with PAE, and its pages have NX and are write-protected for the kernel too.
    private static final long CR0_SHADOW_ON = Cr0.PE | Cr0.PG | Cr0.WP;
    private static final long CR4_PAGING_ONLY = Cr4.SMEP | Cr4.SMAP | Cr4.PKE;

    private final VmxVcpu vcpu;
    private final LoadedVmcs vmcs;
    private final boolean ept;
    private final long cr4GuestOwned;
    private final long cr4Allowed;
    /// Without EPT: the guest's CR3; the VMCS has the root of its shadow.
    private long shadowedCr3;
    private long cr0Hidden;
    private long cr4Hidden;
    private long efer;

    ControlRegisters(VmxVcpu vcpu) {
        this.vcpu = vcpu;
        this.vmcs = vcpu.vmcs;
        this.ept = vcpu.vm.mmu.module().masks().usesEpt();
        this.cr4GuestOwned = ept ? CR4_GUEST_OWNED : CR4_GUEST_OWNED & ~Cr4.PGE;
        this.cr4Allowed = vmcs.lp().rdmsr(IA32_VMX_CR4_FIXED1) & ~CR4_NEVER & (ept ? -1 : ~Cr4.PKE);
    }

    /// @param init INIT, which leaves CR0.CD and NW alone
    void reset(boolean init) {
        long caching = Cr0.CD | Cr0.NW;
        vmcs.write(CR0_GUEST_HOST_MASK, ~CR0_GUEST_OWNED);
        vmcs.write(CR4_GUEST_HOST_MASK, ~cr4GuestOwned);
        restore((init ? cr0() & caching : caching) | Cr0.ET, 0, 0, 0);
    }

    /// Whether KVM_SET_SREGS may set this. [LINUX kvm_is_valid_sregs]
    boolean allows(KvmSregs s) {
        boolean longMode = (s.efer & Efer.LMA) != 0;
        if ((s.efer & Efer.LME) != 0 && (s.cr0 & Cr0.PG) != 0) {
            if (!longMode || (s.cr4 & Cr4.PAE) == 0 || s.cr3 >>> vcpu.cpuid.physicalAddressBits() != 0) {
                return false;
            }
        } else if (longMode || s.cs.l()) {
            return false;
        }
        return (s.cr4 & ~cr4Allowed) == 0 && s.cr0 >>> 32 == 0 && (s.cr0 & (Cr0.CD | Cr0.NW)) != Cr0.NW
                && (s.cr0 & (Cr0.PE | Cr0.PG)) != Cr0.PG;
    }

    /// Sets all without the checks of an instruction.
    void restore(long cr0, long cr3, long cr4, long newEfer) {
        loadCr3(cr3);
        loadEfer(newEfer);
        loadCr0(cr0);
        loadCr4(cr4);
        loadPdptes();
    }

    /// The guest's CR0.
    long cr0() {
        return (cr0Hidden & ~CR0_GUEST_OWNED) | (vmcs.read(GUEST_CR0) & CR0_GUEST_OWNED);
    }

    /// The guest's CR4.
    long cr4() {
        return (cr4Hidden & ~cr4GuestOwned) | (vmcs.read(GUEST_CR4) & cr4GuestOwned);
    }

    long cr3() {
        return ept ? vmcs.read(GUEST_CR3) : shadowedCr3;
    }

    private void loadCr3(long value) {
        if (ept) {
            vmcs.write(GUEST_CR3, value);
        } else {
            shadowedCr3 = value;
        }
    }

    /// What the processor's CR3 has beside the root of the shadow.
    long activePcid() {
        return (cr4() & Cr4.PCIDE) != 0 ? cr3() & PCID_MASK : 0;
    }

    long efer() {
        return efer;
    }

    /// By how much a canonical address shifts left and back unchanged.
    int linearShift() {
        return (cr4() & Cr4.LA57) != 0 ? 7 : 16;
    }

    private void loadCr0(long value) {
        vcpu.stateChanged();
        cr0Hidden = value | Cr0.ET;
        vmcs.write(GUEST_CR0, (value & ~CR0_ALWAYS_OFF) | CR0_ALWAYS_ON | Cr0.ET | (ept ? 0 : CR0_SHADOW_ON));
        vmcs.write(CR0_READ_SHADOW, value | Cr0.ET);
    }

    private void loadCr4(long value) {
        cr4Hidden = value;
        vmcs.write(GUEST_CR4, (ept ? value : shadowedCr4(value)) | Cr4.VMXE);
        vmcs.write(CR4_READ_SHADOW, value);
    }

    /// [LINUX vmx_set_cr4] Called after CR0 has its new value.
    private long shadowedCr4(long value) {
        return Cr4.PAE | ((cr0() & Cr0.PG) != 0 ? value : value & ~CR4_PAGING_ONLY);
    }

    private void loadEfer(long value) {
        efer = value;
        // The processor, which pages always, is in IA-32e mode when LME is 1.
        vmcs.write(GUEST_EFER, ept ? value : ((value & Efer.LMA) != 0 ? value : value & ~Efer.LME) | Efer.NXE);
        int entry = vmcs.readInt(VM_ENTRY_CONTROLS);
        vmcs.write(VM_ENTRY_CONTROLS, (value & Efer.LMA) != 0 ? entry | Controls.ENTRY_IA32E_MODE_GUEST
                : entry & ~Controls.ENTRY_IA32E_MODE_GUEST);
    }

    /// MOV to CR0, CLTS, LMSW.
    ///
    /// @return false for #GP
    boolean writeCr0(long value) {
        long old = cr0();
        if (value >>> 32 != 0 || (value & (Cr0.PE | Cr0.PG)) == Cr0.PG || (value & (Cr0.CD | Cr0.NW)) == Cr0.NW) {
            return false;
        }
        if ((value & Cr0.WP) == 0 && (cr4() & Cr4.CET) != 0) {
            return false;
        }
        long masked = value & Cr0.DEFINED;
        boolean turnsPagingOn = (masked & ~old & Cr0.PG) != 0;
        if (turnsPagingOn && (efer & Efer.LME) != 0) {
            if ((cr4() & Cr4.PAE) == 0 || (vmcs.readInt(GUEST_CS_ACCESS_RIGHTS) & (1 << 13)) != 0) {
                return false;
            }
            enterLongMode();
        } else if ((old & ~masked & Cr0.PG) != 0) {
            if (vcpu.is64Bit() || (cr4() & Cr4.PCIDE) != 0) {
                return false;
            }
            loadEfer(efer & ~Efer.LMA);
        }
        loadCr0(masked);
        if (!ept) {
            loadCr4(cr4()); // what the processor has depends on CR0.PG
        }
        if (((old ^ masked) & Cr0.CD) != 0 && !vcpu.vm.mmu.memoryTypes().clearsCacheDisable()) {
            vcpu.guestTypesChanged(0, -1);
        }
        if (((old ^ masked) & (Cr0.PG | Cr0.PE | Cr0.WP)) != 0) {
            loadPdptes();
            vcpu.flushGuestTlb();
        }
        return true;
    }

    /// [LINUX enter_lmode]: the entry checks want a 64-bit busy TSS.
    private void enterLongMode() {
        int tr = vmcs.readInt(GUEST_TR_ACCESS_RIGHTS);
        if ((tr & 0xf) != 0xb) {
            vmcs.write(GUEST_TR_ACCESS_RIGHTS, (tr & ~0xf) | 0xb);
        }
        loadEfer(efer | Efer.LMA);
    }

    /// MOV to CR4.
    ///
    /// @return false for #GP
    boolean writeCr4(long value) {
        long old = cr4();
        if ((value & ~cr4Allowed) != 0) {
            return false;
        }
        if ((value & Cr4.CET) != 0 && ((cr0() & Cr0.WP) == 0 || !ControlFlowMsrs.has(vcpu.cpuid))) {
            return false;
        }
        boolean longMode = (efer & Efer.LMA) != 0;
        if (longMode && ((value & Cr4.PAE) == 0 || ((value ^ old) & Cr4.LA57) != 0)) {
            return false;
        }
        if ((value & ~old & Cr4.PCIDE) != 0 && (!longMode || (cr3() & 0xfff) != 0)) {
            return false;
        }
        loadCr4(value);
        if (((value ^ old) & (Cr4.PGE | Cr4.PSE | Cr4.PAE | Cr4.PCIDE | Cr4.SMEP | Cr4.SMAP | Cr4.LA57 | Cr4.PKE)) != 0) {
            loadPdptes();
            vcpu.flushGuestTlb();
        }
        return true;
    }

    /// MOV to CR3, when it exits. [LINUX kvm_set_cr3]
    ///
    /// @return false for #GP
    boolean writeCr3(long value) {
        boolean keepsTranslations = (cr4() & Cr4.PCIDE) != 0 && (value & CR3_NO_FLUSH) != 0;
        long address = (cr4() & Cr4.PCIDE) != 0 ? value & ~CR3_NO_FLUSH : value;
        if ((efer & Efer.LMA) != 0 && address >>> vcpu.cpuid.physicalAddressBits() != 0) {
            return false;
        }
        if (usesPdptes() && hasReservedPdptes(address)) {
            return false;
        }
        loadCr3(address);
        loadPdptes();
        if (!keepsTranslations) {
            vcpu.flushPcid(address & PCID_MASK, (cr4() & Cr4.PCIDE) != 0);
        }
        return true;
    }

    private boolean hasReservedPdptes(long cr3) {
        long reserved = PDPTE_RESERVED | (Ept.ADDRESS & -(1L << vcpu.cpuid.physicalAddressBits()));
        for (int i = 0; i < 4; i++) {
            try {
                long entry = vcpu.vm.memory.read((cr3 & 0xffff_ffe0L) + (8L * i), 8);
                if ((entry & 1) != 0 && (entry & reserved) != 0) {
                    return true;
                }
            } catch (KvmException outsideMemory) {
                return true;
            }
        }
        return false;
    }

    private boolean usesPdptes() {
        return (cr0() & Cr0.PG) != 0 && (cr4() & Cr4.PAE) != 0 && (efer & Efer.LMA) == 0;
    }

    /// WRMSR IA32_EFER. [LINUX set_efer]
    ///
    /// @throws GuestGp for reserved bits, and for changing LME while paging
    void efer(long value, boolean byHost) {
        if ((value & ~EFER_DEFINED) != 0) {
            throw GuestGp.INSTANCE;
        }
        if (!byHost && (cr0() & Cr0.PG) != 0 && ((value ^ efer) & Efer.LME) != 0) {
            throw GuestGp.INSTANCE;
        }
        boolean nxChanged = ((value ^ efer) & Efer.NXE) != 0;
        loadEfer(byHost ? value : (value & ~Efer.LMA) | (efer & Efer.LMA));
        if (nxChanged) {
            loadPdptes();
            vcpu.flushGuestTlb();
        }
    }

    /// With EPT the processor takes the PDPTEs of PAE paging from the VMCS. [LINUX ept_load_pdptrs] Without, the guest's paging is what is
    /// shadowed. [LINUX kvm_mmu_reset_context]
    private void loadPdptes() {
        if (!ept) {
            vcpu.mmu.guestPaging(cr0(), cr3(), cr4(), efer);
            return;
        }
        if (!usesPdptes()) {
            return;
        }
        var fields = new VmcsField[] {GUEST_PDPTE0, GUEST_PDPTE1, GUEST_PDPTE2, GUEST_PDPTE3};
        for (int i = 0; i < fields.length; i++) {
            try {
                vmcs.write(fields[i], vcpu.vm.memory.read((cr3() & 0xffff_ffe0L) + 8L * i, 8));
            } catch (KvmException outsideMemory) {
                vmcs.write(fields[i], 0);
            }
        }
    }

    @Override public String stateName() {
        return "cr";
    }

    @Override public void describe(StateSink to) {
        to.field("cr0Hidden", cr0Hidden);
        to.field("cr4Hidden", cr4Hidden);
        to.field("efer", efer);
        to.field("shadowedCr3", shadowedCr3);
    }
}
