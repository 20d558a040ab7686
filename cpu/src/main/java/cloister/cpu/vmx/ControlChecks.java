package cloister.cpu.vmx;

import static cloister.spec.vmx.VmcsField.*;

import cloister.cpu.sys.Msrs;
import cloister.cpu.core.Cpu;
import cloister.cpu.core.ModelLimit;
import cloister.spec.vmx.Controls;
import cloister.spec.vmx.Ept;
import cloister.spec.vmx.Interruption;
import cloister.spec.vmx.VmcsField;
import cloister.spec.x86.Cet;
import cloister.spec.x86.Cr0;
import cloister.spec.x86.Cr4;
import cloister.spec.x86.Efer;
import cloister.spec.x86.ExceptionVector;

/// The checks of VM entry that fail the instruction: VMX controls, then the host-state area. [SDM Vol. 3 "Checks on VMX Controls
/// and Host-State Area"] Addresses with a private KeyID are out of bounds for a VMCS of the host's. [TDX-CPU "Private KeyID"]
final class ControlChecks {
    private static final long FRAME_OFFSET = 0xfff;
    private static final long PHYSICAL = 0x000f_ffff_ffff_ffffL;

    private final Vmcs v;
    private final Cpu cpu;

    ControlChecks(Vmcs vmcs, Cpu cpu) {
        this.v = vmcs;
        this.cpu = cpu;
    }

    /// Whether the controls pass. Controls that pass but whose effect this model lacks stop the run.
    boolean controls() {
        return executionControls() && apicControls() && eptControls() && exitControls() && entryControls() && modelled();
    }

    private boolean pin(int bit) {
        return v.has(PIN_BASED_CONTROLS, bit);
    }

    private boolean proc(int bit) {
        return v.has(PROC_BASED_CONTROLS, bit);
    }

    private boolean proc2(int bit) {
        return v.has(SECONDARY_PROC_BASED_CONTROLS, bit) && proc(Controls.PROC_SECONDARY_CONTROLS);
    }

    private static boolean allowed(int value, int mustBe1, int mayBe1) {
        return (value & mustBe1) == mustBe1 && (value & ~mayBe1) == 0;
    }

    private boolean aligned(VmcsField field, long offset) {
        return (v.read(field) & offset) == 0 && usable(cpu, v, v.read(field));
    }

    /// Whether `hpa` is a platform address that who made VMCS `v` can use: the TDX module all, others those without a private KeyID.
    static boolean usable(Cpu cpu, Vmcs v, long hpa) {
        return (hpa & ~PHYSICAL) == 0 && (v.read(GUEST_TD_HKID) != 0 || !cpu.memory.isPrivate(hpa));
    }

    private boolean frame(VmcsField field) {
        return aligned(field, FRAME_OFFSET);
    }

    /// [SDM Vol. 3 "VM-Execution Control Fields" of the checks]
    private boolean executionControls() {
        return allowed(v.readInt(PIN_BASED_CONTROLS), VmxCapabilities.PIN_DEFAULT1, VmxCapabilities.PIN_ALLOWED1)
                && allowed(v.readInt(PROC_BASED_CONTROLS), VmxCapabilities.PROC_TRUE_DEFAULT1, VmxCapabilities.PROC_ALLOWED1)
                && (!proc(Controls.PROC_SECONDARY_CONTROLS)
                        || allowed(v.readInt(SECONDARY_PROC_BASED_CONTROLS), 0, VmxCapabilities.PROC2_ALLOWED1))
                && (!proc(Controls.PROC_TERTIARY_CONTROLS)
                        || (v.read(TERTIARY_PROC_BASED_CONTROLS) & ~VmxCapabilities.PROC3_ALLOWED1) == 0)
                && Integer.compareUnsigned(v.readInt(CR3_TARGET_COUNT), 4) <= 0
                && (!proc(Controls.PROC_IO_BITMAPS) || (frame(IO_BITMAP_A) && frame(IO_BITMAP_B)))
                && (!proc(Controls.PROC_MSR_BITMAPS) || frame(MSR_BITMAP))
                && (pin(Controls.PIN_NMI_EXITING) || !pin(Controls.PIN_VIRTUAL_NMIS))
                && (pin(Controls.PIN_VIRTUAL_NMIS) || !proc(Controls.PROC_NMI_WINDOW));
    }

    private boolean apicControls() {
        boolean accesses = proc2(Controls.PROC2_VIRTUALIZE_APIC_ACCESSES);
        boolean x2apic = proc2(Controls.PROC2_VIRTUALIZE_X2APIC_MODE);
        boolean delivery = proc2(Controls.PROC2_VIRTUAL_INTERRUPT_DELIVERY);
        if (proc(Controls.PROC_TPR_SHADOW)) {
            if (!frame(VIRTUAL_APIC_ADDRESS)) {
                return false;
            }
            int threshold = v.readInt(TPR_THRESHOLD);
            if (!delivery && (threshold & ~15) != 0) {
                return false;
            }
            if (!delivery && !accesses && threshold > vtpr() >>> 4) {
                return false;
            }
        } else if (x2apic || delivery || proc2(Controls.PROC2_APIC_REGISTER_VIRTUALIZATION)) {
            return false;
        }
        if (accesses && (x2apic || !frame(APIC_ACCESS_ADDRESS))) {
            return false;
        }
        if (delivery && !pin(Controls.PIN_EXTERNAL_INTERRUPT_EXITING)) {
            return false;
        }
        return !pin(Controls.PIN_POSTED_INTERRUPTS)
                || (delivery && v.has(VM_EXIT_CONTROLS, Controls.EXIT_ACKNOWLEDGE_INTERRUPT)
                && v.readInt(POSTED_INTERRUPT_NOTIFICATION_VECTOR) <= 0xff
                && aligned(POSTED_INTERRUPT_DESCRIPTOR_ADDRESS, 0x3f));
    }

    private int vtpr() {
        return (int) cpu.readPhysical(v.read(VIRTUAL_APIC_ADDRESS) + VirtualApic.TPR, 1);
    }

    private boolean eptControls() {
        if (proc2(Controls.PROC2_ENABLE_VPID) && v.read(VPID) == 0) {
            return false;
        }
        boolean ept = proc2(Controls.PROC2_ENABLE_EPT);
        if (ept && !eptp(v.read(EPTP))) {
            return false;
        }
        if (!ept && (proc2(Controls.PROC2_UNRESTRICTED_GUEST) || proc2(Controls.PROC2_MODE_BASED_EXECUTE))) {
            return false;
        }
        return (!proc2(Controls.PROC2_ENABLE_VM_FUNCTIONS) || v.read(VM_FUNCTION_CONTROLS) == 0)
                && (!proc2(Controls.PROC2_EPT_VIOLATION_VE) || frame(VE_INFORMATION_ADDRESS))
                && (!proc2(Controls.PROC2_TSC_SCALING) || v.read(TSC_MULTIPLIER) != 0);
    }

    private boolean eptp(long eptp) {
        int type = (int) eptp & 7;
        int levels = Ept.levels(eptp);
        return (type == Ept.TYPE_UC || type == Ept.TYPE_WB) && (levels == 4 || levels == 5) && (eptp & 0xf80) == 0
                && usable(cpu, v, eptp);
    }

    private boolean exitControls() {
        return allowed(v.readInt(VM_EXIT_CONTROLS), VmxCapabilities.EXIT_TRUE_DEFAULT1, VmxCapabilities.EXIT_ALLOWED1)
                && (pin(Controls.PIN_PREEMPTION_TIMER) || !v.has(VM_EXIT_CONTROLS, Controls.EXIT_SAVE_PREEMPTION_TIMER))
                && msrArea(EXIT_MSR_STORE_COUNT, EXIT_MSR_STORE_ADDRESS) && msrArea(EXIT_MSR_LOAD_COUNT, EXIT_MSR_LOAD_ADDRESS);
    }

    private boolean msrArea(VmcsField count, VmcsField address) {
        return v.read(count) == 0
                || (aligned(address, 0xf) && usable(cpu, v, v.read(address) + 16 * v.read(count) - 1));
    }

    private boolean entryControls() {
        return allowed(v.readInt(VM_ENTRY_CONTROLS), VmxCapabilities.ENTRY_TRUE_DEFAULT1, VmxCapabilities.ENTRY_ALLOWED1)
                && msrArea(ENTRY_MSR_LOAD_COUNT, ENTRY_MSR_LOAD_ADDRESS) && injection();
    }

    private boolean injection() {
        int info = v.readInt(ENTRY_INTERRUPTION_INFO);
        if (!Interruption.valid(info)) {
            return true;
        }
        int type = Interruption.type(info);
        int vector = Interruption.vector(info);
        boolean vectorFits = switch (type) {
            case Interruption.NMI -> vector == ExceptionVector.NMI;
            case Interruption.HARDWARE_EXCEPTION -> vector <= 31;
            case Interruption.OTHER_EVENT -> vector == 0;
            default -> type != 1;
        };
        boolean hasCode = (info & Interruption.DELIVER_ERROR_CODE) != 0;
        // IA32_VMX_BASIC bit 56: a hardware exception may have an error code or not, whatever its vector.
        boolean mayHaveCode = type == Interruption.HARDWARE_EXCEPTION && (v.read(GUEST_CR0) & Cr0.PE) != 0;
        boolean software = type >= Interruption.SOFTWARE_INTERRUPT && type <= Interruption.SOFTWARE_EXCEPTION;
        return vectorFits && (!hasCode || mayHaveCode) && (info & 0x7fff_f000) == 0
                && (!hasCode || (v.readInt(ENTRY_EXCEPTION_ERROR_CODE) & 0xffff_0000) == 0)
                && (!software || Integer.compareUnsigned(v.readInt(ENTRY_INSTRUCTION_LENGTH), 15) <= 0);
    }

    /// Stops the run at controls that the capabilities must promise (the TDX module checks) but this model does not implement.
    private boolean modelled() {
        if (proc2(Controls.PROC2_MODE_BASED_EXECUTE)) {
            throw new ModelLimit("VMX control: mode-based execute control for EPT");
        }
        if (proc(Controls.PROC_TERTIARY_CONTROLS)
                && (v.read(TERTIARY_PROC_BASED_CONTROLS) & (Controls.PROC3_ENABLE_HLAT | Controls.PROC3_EPT_PAGING_WRITE
                        | Controls.PROC3_GUEST_PAGING_VERIFICATION)) != 0) {
            throw new ModelLimit("VMX tertiary controls: HLAT, EPT paging-write or guest-paging verification");
        }
        return true;
    }

    /// [SDM Vol. 3 "Checks on Host Control Registers, MSRs, and SSP", "Checks on Host Segment and Descriptor-Table Registers", "Checks
    /// Related to Address-Space Size"] Hosts are 64-bit.
    boolean hostState() {
        long cr0 = v.read(HOST_CR0);
        long cr4 = v.read(HOST_CR4);
        if ((cr0 & VmxCapabilities.CR0_FIXED0) != VmxCapabilities.CR0_FIXED0 || (cr0 & ~VmxCapabilities.CR0_FIXED1) != 0
                || (cr4 & VmxCapabilities.CR4_FIXED0) != VmxCapabilities.CR4_FIXED0 || (cr4 & ~VmxCapabilities.CR4_FIXED1) != 0
                || !usable(cpu, v, v.read(HOST_CR3))) {
            return false;
        }
        if (!v.has(VM_EXIT_CONTROLS, Controls.EXIT_HOST_ADDRESS_SPACE_SIZE) || (cr4 & Cr4.PAE) == 0
                || !canonical(HOST_RIP, cr4)) {
            return false;
        }
        if (v.has(VM_EXIT_CONTROLS, Controls.EXIT_LOAD_PAT) && !pat(v.read(HOST_PAT))) {
            return false;
        }
        if (!cet(cr0, cr4)) {
            return false;
        }
        if (v.has(VM_EXIT_CONTROLS, Controls.EXIT_LOAD_CET_STATE)
                && !cetState(v.read(HOST_S_CET), v.read(HOST_SSP), v.read(HOST_INTERRUPT_SSP_TABLE), cr4)) {
            return false;
        }
        if (v.has(VM_EXIT_CONTROLS, Controls.EXIT_LOAD_EFER) && !hostEfer(v.read(HOST_EFER))) {
            return false;
        }
        long selectors = v.read(HOST_CS_SELECTOR) | v.read(HOST_SS_SELECTOR) | v.read(HOST_DS_SELECTOR) | v.read(HOST_ES_SELECTOR)
                | v.read(HOST_FS_SELECTOR) | v.read(HOST_GS_SELECTOR) | v.read(HOST_TR_SELECTOR);
        return (selectors & 7) == 0 && v.read(HOST_CS_SELECTOR) != 0 && v.read(HOST_TR_SELECTOR) != 0
                && canonical(HOST_SYSENTER_ESP, cr4) && canonical(HOST_SYSENTER_EIP, cr4) && canonical(HOST_FS_BASE, cr4)
                && canonical(HOST_GS_BASE, cr4) && canonical(HOST_GDTR_BASE, cr4) && canonical(HOST_IDTR_BASE, cr4)
                && canonical(HOST_TR_BASE, cr4);
    }

    private boolean canonical(VmcsField field, long cr4) {
        return canonical(v.read(field), cr4);
    }

    static boolean canonical(long address, long cr4) {
        int unused = (cr4 & Cr4.LA57) != 0 ? 7 : 16;
        return address << unused >> unused == address;
    }

    /// CR4.CET needs CR0.WP.
    static boolean cet(long cr0, long cr4) {
        return (cr4 & Cr4.CET) == 0 || (cr0 & Cr0.WP) != 0;
    }

    /// IA32_S_CET, SSP and IA32_INTERRUPT_SSP_TABLE_ADDR of a VMCS whose control loads them.
    static boolean cetState(long sCet, long ssp, long table, long cr4) {
        return Cet.legalControl(sCet) && Msrs.canonical(sCet) && (ssp & 3) == 0 && canonical(ssp, cr4) && Msrs.canonical(table);
    }

    static boolean pat(long pat) {
        for (int i = 0; i < 64; i += 8) {
            int type = (int) (pat >>> i) & 0xff;
            if (type > 7 || type == 2 || type == 3) {
                return false;
            }
        }
        return true;
    }

    private static boolean hostEfer(long efer) {
        long both = Efer.LMA | Efer.LME;
        return (efer & ~(Efer.SCE | Efer.NXE | both)) == 0 && (efer & both) == both;
    }
}
