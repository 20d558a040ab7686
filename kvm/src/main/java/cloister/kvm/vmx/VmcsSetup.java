package cloister.kvm.vmx;

import static cloister.spec.vmx.Controls.*;
import static cloister.spec.vmx.VmcsField.*;

import cloister.cpu.LogicalProcessor;
import cloister.kvm.host.Host;
import cloister.kvm.host.LostRegisters;
import cloister.kvm.irq.LocalApic;
import cloister.memory.HostMemory;
import cloister.memory.PhysicalMemory;
import cloister.spec.kvm.HostRegister;
import cloister.spec.vmx.VmcsField;
import cloister.spec.x86.ApicRegister;
import cloister.spec.x86.Cr0;
import cloister.spec.x86.Cr4;
import cloister.spec.x86.Efer;
import cloister.spec.x86.Msr;

/// Fills in what of a VMCS does not change. [LINUX init_vmcs, vmx_set_constant_host_state]
final class VmcsSetup {
    private static final int TRUE_PINBASED = 0x48d;
    private static final int TRUE_PROCBASED = 0x48e;
    private static final int TRUE_EXIT = 0x48f;
    private static final int TRUE_ENTRY = 0x490;
    private static final int PROCBASED2 = 0x48b;
    private static final long PAT_DEFAULT = 0x0007_0406_0007_0406L;
    private static final long HOST_CODE = 0xffff_ffff_8100_0000L;
    private static final int MC_VECTOR_BIT = 1 << 18;
    private static final int PF_VECTOR_BIT = 1 << 14;
    /// What shadow paging must see.
    private static final int PAGING_EXITS = PROC_CR3_LOAD_EXITING | PROC_CR3_STORE_EXITING | PROC_INVLPG_EXITING;

    private VmcsSetup() {
    }

    /// Control bits that the processor allows: `required` and what it insists on, and those of `optional` that it has.
    static int adjust(LogicalProcessor lp, int msr, int required, int optional) {
        long capability = lp.rdmsr(msr);
        int mustBeOne = (int) capability;
        int mayBeOne = (int) (capability >>> 32);
        if ((required & ~mayBeOne) != 0) {
            throw new IllegalStateException("the processor lacks VMX controls 0x" + Integer.toHexString(required & ~mayBeOne)
                    + " of MSR 0x" + Integer.toHexString(msr));
        }
        return (required | optional | mustBeOne) & mayBeOne;
    }

    static void controls(LogicalProcessor lp, LoadedVmcs vmcs, int vpid, long msrBitmapPa, boolean ept) {
        vmcs.write(PIN_BASED_CONTROLS, adjust(lp, TRUE_PINBASED,
                PIN_EXTERNAL_INTERRUPT_EXITING | PIN_NMI_EXITING | PIN_VIRTUAL_NMIS, 0));
        vmcs.write(PROC_BASED_CONTROLS, adjust(lp, TRUE_PROCBASED,
                PROC_HLT_EXITING | PROC_MWAIT_EXITING | PROC_MONITOR_EXITING | PROC_RDPMC_EXITING
                        | PROC_CR8_LOAD_EXITING | PROC_CR8_STORE_EXITING | PROC_UNCONDITIONAL_IO_EXITING
                        | PROC_MSR_BITMAPS | PROC_TSC_OFFSETTING | PROC_SECONDARY_CONTROLS | (ept ? 0 : PAGING_EXITS), 0));
        vmcs.write(SECONDARY_PROC_BASED_CONTROLS, adjust(lp, PROCBASED2,
                (ept ? PROC2_ENABLE_EPT | PROC2_UNRESTRICTED_GUEST : 0) | PROC2_ENABLE_RDTSCP | PROC2_ENABLE_VPID
                        | PROC2_WBINVD_EXITING | PROC2_ENABLE_INVPCID | PROC2_ENABLE_XSAVES, 0));
        vmcs.write(VM_EXIT_CONTROLS, adjust(lp, TRUE_EXIT,
                EXIT_SAVE_DEBUG_CONTROLS | EXIT_HOST_ADDRESS_SPACE_SIZE | EXIT_LOAD_PAT | EXIT_LOAD_EFER
                        | EXIT_ACKNOWLEDGE_INTERRUPT, EXIT_LOAD_CET_STATE));
        vmcs.write(VM_ENTRY_CONTROLS, adjust(lp, TRUE_ENTRY,
                ENTRY_LOAD_DEBUG_CONTROLS | ENTRY_LOAD_PAT | ENTRY_LOAD_EFER, ENTRY_LOAD_CET_STATE));
        vmcs.write(EXCEPTION_BITMAP, MC_VECTOR_BIT | (ept ? 0 : PF_VECTOR_BIT));
        vmcs.write(VPID, vpid);
        vmcs.write(MSR_BITMAP, msrBitmapPa);
        vmcs.write(XSS_EXITING_BITMAP, 0);
        vmcs.write(VMCS_LINK_POINTER, -1);
        vmcs.write(PAGE_FAULT_ERROR_CODE_MASK, 0);
        vmcs.write(PAGE_FAULT_ERROR_CODE_MATCH, 0);
        vmcs.write(CR3_TARGET_COUNT, 0);
        vmcs.write(GUEST_PAT, PAT_DEFAULT);
    }

    /// Makes the guest exit before its first instruction, behind the delivery of an event, or not any more. [LINUX vmx_update_hv_timer]
    static void exitAtOnce(LoadedVmcs vmcs, boolean wanted) {
        int controls = vmcs.readInt(PIN_BASED_CONTROLS);
        vmcs.write(PIN_BASED_CONTROLS, wanted ? controls | PIN_PREEMPTION_TIMER : controls & ~PIN_PREEMPTION_TIMER);
        vmcs.write(PREEMPTION_TIMER_VALUE, 0);
    }

    /// Whether the processor delivers virtual interrupts and processes posted ones.
    static boolean hasApicv(LogicalProcessor lp) {
        return mayBeOne(lp, TRUE_PROCBASED, PROC_TPR_SHADOW) && mayBeOne(lp, TRUE_PINBASED, PIN_POSTED_INTERRUPTS)
                && mayBeOne(lp, PROCBASED2, PROC2_VIRTUALIZE_X2APIC_MODE | PROC2_APIC_REGISTER_VIRTUALIZATION
                        | PROC2_VIRTUAL_INTERRUPT_DELIVERY);
    }

    private static boolean mayBeOne(LogicalProcessor lp, int msr, int bits) {
        return ((int) (lp.rdmsr(msr) >>> 32) & bits) == bits;
    }

    /// Turns APIC virtualisation on. Outside x2APIC mode accesses to the APIC page stay EPT misconfigurations.
    static void apicVirtualization(LoadedVmcs vmcs, long virtualApicPa, long piDescriptorPa) {
        vmcs.write(PIN_BASED_CONTROLS, vmcs.readInt(PIN_BASED_CONTROLS) | PIN_POSTED_INTERRUPTS);
        vmcs.write(PROC_BASED_CONTROLS, (vmcs.readInt(PROC_BASED_CONTROLS) & ~(PROC_CR8_LOAD_EXITING | PROC_CR8_STORE_EXITING))
                | PROC_TPR_SHADOW);
        vmcs.write(SECONDARY_PROC_BASED_CONTROLS, vmcs.readInt(SECONDARY_PROC_BASED_CONTROLS)
                | PROC2_APIC_REGISTER_VIRTUALIZATION | PROC2_VIRTUAL_INTERRUPT_DELIVERY);
        vmcs.write(VIRTUAL_APIC_ADDRESS, virtualApicPa);
        vmcs.write(TPR_THRESHOLD, 0);
        vmcs.write(POSTED_INTERRUPT_NOTIFICATION_VECTOR, Host.POSTED_INTR_VECTOR);
        vmcs.write(POSTED_INTERRUPT_DESCRIPTOR_ADDRESS, piDescriptorPa);
    }

    /// In x2APIC mode the guest reads registers, and writes TPR, EOI and SELF_IPI, without exits. The timer's count and the
    /// 64-bit ICR are KVM's. [LINUX vmx_update_msr_bitmap_x2apic]
    static void x2apicMode(HostMemory memory, LoadedVmcs vmcs, long bitmapPa, boolean on) {
        int controls = vmcs.readInt(SECONDARY_PROC_BASED_CONTROLS);
        vmcs.write(SECONDARY_PROC_BASED_CONTROLS,
                on ? controls | PROC2_VIRTUALIZE_X2APIC_MODE : controls & ~PROC2_VIRTUALIZE_X2APIC_MODE);
        memory.fill(bitmapPa + (Msr.IA32_X2APIC_FIRST >> 3), 32, (byte) 0xff);
        memory.fill(bitmapPa + 2048 + (Msr.IA32_X2APIC_FIRST >> 3), 32, (byte) 0xff);
        if (!on) {
            return;
        }
        for (int offset = 0; offset < 0x400; offset += 16) {
            if (LocalApic.readable(offset) && offset != ApicRegister.TIMER_CURRENT_COUNT && offset != ApicRegister.ICR
                    && offset != ApicRegister.ICR2 && offset != ApicRegister.DFR) {
                pass(memory, bitmapPa, Msr.IA32_X2APIC_FIRST + (offset >> 4), 0);
            }
        }
        for (int offset : new int[] {ApicRegister.TPR, ApicRegister.EOI, ApicRegister.SELF_IPI}) {
            pass(memory, bitmapPa, Msr.IA32_X2APIC_FIRST + (offset >> 4), 2048);
        }
    }

    /// The host's own state. Its code addresses are those of a Linux kernel; no instruction is ever fetched there, as the
    /// host is this program.
    static void hostState(LoadedVmcs vmcs) {
        vmcs.write(HOST_CS_SELECTOR, 0x10);
        vmcs.write(HOST_SS_SELECTOR, 0x18);
        vmcs.write(HOST_TR_SELECTOR, 0x40);
        vmcs.write(HOST_TR_BASE, HOST_CODE);
        vmcs.write(HOST_GDTR_BASE, HOST_CODE);
        vmcs.write(HOST_IDTR_BASE, HOST_CODE);
        vmcs.write(HOST_RSP, HOST_CODE);
        vmcs.write(HOST_RIP, HOST_CODE);
    }

    /// What differs from processor to processor. [LINUX vmx_vcpu_load_vmcs, vmx_set_constant_host_state]
    static void hostStateOf(LogicalProcessor lp, LoadedVmcs vmcs, LostRegisters lost) {
        vmcs.write(HOST_CR0, lost.has(HostRegister.CR0) ? lp.cr(0) & ~Cr0.AM : lp.cr(0));
        long efer = lp.rdmsr(Msr.IA32_EFER);
        vmcs.write(HOST_EFER, lost.has(HostRegister.EFER) ? efer & ~Efer.SCE : efer);
        host(lp, vmcs, lost, HostRegister.PAT, HOST_PAT);
        host(lp, vmcs, lost, HostRegister.SYSENTER_CS, HOST_SYSENTER_CS);
        host(lp, vmcs, lost, HostRegister.SYSENTER_ESP, HOST_SYSENTER_ESP);
        host(lp, vmcs, lost, HostRegister.SYSENTER_EIP, HOST_SYSENTER_EIP);
        host(lp, vmcs, lost, HostRegister.S_CET, HOST_S_CET);
        host(lp, vmcs, lost, HostRegister.INTERRUPT_SSP_TABLE, HOST_INTERRUPT_SSP_TABLE);
        vmcs.write(HOST_SSP, lost.has(HostRegister.SSP) ? 0 : lp.ssp());
    }

    /// What differs from task to task. [LINUX vmx_prepare_switch_to_guest, vmx_vcpu_run]
    static void hostStateOfTask(LogicalProcessor lp, LoadedVmcs vmcs, LostRegisters lost) {
        host(lp, vmcs, lost, HostRegister.FS_BASE, HOST_FS_BASE);
        host(lp, vmcs, lost, HostRegister.GS_BASE, HOST_GS_BASE);
        vmcs.write(HOST_CR3, lost.has(HostRegister.CR3) ? 0 : lp.cr(3));
        vmcs.write(HOST_CR4, lost.has(HostRegister.CR4) ? lp.cr(4) & ~Cr4.PKE : lp.cr(4));
    }

    private static void host(LogicalProcessor lp, LoadedVmcs vmcs, LostRegisters lost, HostRegister row, VmcsField field) {
        vmcs.write(field, lost.has(row) ? 0 : lp.rdmsr(row.msr()));
    }

    /// Lets the guest access the MSRs that VMX or [VmxVcpu] switches, and read the TSC.
    static void msrBitmap(HostMemory memory, long bitmapPa) {
        memory.fill(bitmapPa, PhysicalMemory.FRAME_SIZE, (byte) 0xff);
        for (int msr : new int[] {Msr.IA32_FS_BASE, Msr.IA32_GS_BASE, Msr.IA32_KERNEL_GS_BASE, Msr.IA32_SYSENTER_CS,
                Msr.IA32_SYSENTER_ESP, Msr.IA32_SYSENTER_EIP}) {
            pass(memory, bitmapPa, msr, 0);
            pass(memory, bitmapPa, msr, 2048);
        }
        pass(memory, bitmapPa, Msr.IA32_TIME_STAMP_COUNTER, 0);
    }

    /// Lets the guest access the control-flow enforcement MSRs that it has.
    ///
    /// @param enforcement  shadow stacks or indirect-branch tracking
    /// @param shadowStacks shadow stacks
    static void controlFlowMsrs(HostMemory memory, long bitmapPa, boolean enforcement, boolean shadowStacks) {
        for (int half = 0; half <= 2048; half += 2048) {
            access(memory, bitmapPa, Msr.IA32_U_CET, half, enforcement);
            access(memory, bitmapPa, Msr.IA32_S_CET, half, enforcement);
            for (int msr = Msr.IA32_PL0_SSP; msr <= Msr.IA32_PL3_SSP; msr++) {
                access(memory, bitmapPa, msr, half, shadowStacks);
            }
        }
    }

    private static void pass(HostMemory memory, long bitmapPa, int msr, int half) {
        access(memory, bitmapPa, msr, half, true);
    }

    /// The bit of `msr` in the read (0) or write (2048) half of the bitmap: clear when the guest may access it. [SDM Vol. 3 "MSR-Bitmap
    /// Address"]
    private static void access(HostMemory memory, long bitmapPa, int msr, int half, boolean allowed) {
        long at = bitmapPa + half + (msr < 0 ? 1024 : 0) + ((msr & 0x1fff) >> 3);
        long bit = 1L << (msr & 7);
        memory.write(at, 1, allowed ? memory.read(at, 1) & ~bit : memory.read(at, 1) | bit);
    }
}
