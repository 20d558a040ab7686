package cloister.tdx.core;

import static cloister.spec.vmx.VmcsField.*;

import cloister.spec.vmx.VmcsField;
import cloister.tdx.port.Vmcs;

/// Writes the initial content of a VMCS. [TDX-ABI "TD VMCS"]
public final class VmcsSetup {
    private static final VmcsField[] NULL_ADDRESSES = {APIC_ACCESS_ADDRESS, POSTED_INTERRUPT_DESCRIPTOR_ADDRESS,
        IO_BITMAP_A, IO_BITMAP_B, EPTP_LIST_ADDRESS, VMREAD_BITMAP, VMWRITE_BITMAP, PML_ADDRESS, EXIT_MSR_STORE_ADDRESS,
        EXIT_MSR_LOAD_ADDRESS, ENTRY_MSR_LOAD_ADDRESS, VMCS_LINK_POINTER, GUEST_PDPTE0, GUEST_PDPTE1, GUEST_PDPTE2,
        GUEST_PDPTE3, ENCLS_EXITING_BITMAP, PCONFIG_EXITING_BITMAP, EXECUTIVE_VMCS_POINTER};
    private static final VmcsField[] DATA_SEGMENT_RIGHTS = {GUEST_DS_ACCESS_RIGHTS, GUEST_ES_ACCESS_RIGHTS,
        GUEST_FS_ACCESS_RIGHTS, GUEST_GS_ACCESS_RIGHTS, GUEST_SS_ACCESS_RIGHTS};
    private static final VmcsField[] FLAT_LIMITS = {GUEST_CS_LIMIT, GUEST_DS_LIMIT, GUEST_ES_LIMIT, GUEST_FS_LIMIT,
        GUEST_GS_LIMIT, GUEST_SS_LIMIT};
    private static final VmcsField[] HOST_FIELDS = {HOST_CR0, HOST_CR3, HOST_CR4, HOST_CS_SELECTOR, HOST_SS_SELECTOR,
        HOST_FS_SELECTOR, HOST_GS_SELECTOR, HOST_TR_SELECTOR, HOST_S_CET, HOST_PAT, HOST_EFER, HOST_FS_BASE,
        HOST_IDTR_BASE, HOST_GDTR_BASE, HOST_RSP, HOST_SSP, HOST_GS_BASE, HOST_RIP};
    private static final int MAX_VPID_KEY_ID = 1 << 12;

    private final LpState lp;
    private final PlatformConfig config;
    private final Tdr tdr;
    private final Tdcs tdcs;
    private final Tdvps vcpu;
    private final Vmcs vmcs;
    private final int vm;

    /// @param vm 0 for the TD itself, 1 to 3 for an L2 VM
    public VmcsSetup(LpState lp, Tdr tdr, Tdcs tdcs, Tdvps vcpu, Vmcs vmcs, int vm) {
        this.lp = lp;
        this.config = lp.module.config;
        this.tdr = tdr;
        this.tdcs = tdcs;
        this.vcpu = vcpu;
        this.vmcs = vmcs;
        this.vm = vm;
    }

    public void run() {
        guestState();
        fixedControls();
        for (var field : HOST_FIELDS) {
            vmcs.write(field, lp.cpu.seamVmcs().read(field));
        }
        addresses();
        controls();
        controlRegisterMasks();
        if ((config.vmxProcbased3 & VmcsInit.PROC3_VIRT_SPEC_CTRL) != 0) {
            vmcs.write(SPEC_CTRL_MASK, tdcs.u64(Tdcs.SPEC_CTRL_MASK));
        }
        shadows();
        vmcs.write(VPID, tdr.keyId() < MAX_VPID_KEY_ID ? vm | (tdr.keyId() << 2) : 0);
    }

    private void guestState() {
        vmcs.write(GUEST_DR7, 0x400);
        vmcs.write(GUEST_RIP, 0xffff_fff0L);
        vmcs.write(GUEST_RFLAGS, 2);
        for (var limit : FLAT_LIMITS) {
            vmcs.write(limit, 0xffff_ffffL);
        }
        vmcs.write(GUEST_CS_ACCESS_RIGHTS, 0xc09b);
        for (var rights : DATA_SEGMENT_RIGHTS) {
            vmcs.write(rights, 0xc093);
        }
        vmcs.write(GUEST_LDTR_LIMIT, 0xffff);
        vmcs.write(GUEST_LDTR_ACCESS_RIGHTS, 0x1_0082);
        vmcs.write(GUEST_TR_LIMIT, 0xffff);
        vmcs.write(GUEST_TR_ACCESS_RIGHTS, 0x8b);
        vmcs.write(GUEST_GDTR_LIMIT, 0xffff);
        vmcs.write(GUEST_PERF_GLOBAL_CTRL, tdcs.hasAttribute(Tdcs.PERFMON) ? 0xff : 1L << 32);
        vmcs.write(GUEST_PAT, 0x0007_0406_0007_0406L);
        vmcs.write(GUEST_EFER, 0x901);
        vmcs.write(GUEST_CR0, VmcsInit.CR0);
        vmcs.write(GUEST_CR4, VmcsInit.CR4);
    }

    private void fixedControls() {
        for (var address : NULL_ADDRESSES) {
            vmcs.write(address, -1L);
        }
        vmcs.write(POSTED_INTERRUPT_NOTIFICATION_VECTOR, VmcsInit.NO_NOTIFICATION_VECTOR);
        vmcs.write(EXCEPTION_BITMAP, 1 << 18);
        if ((config.td.procbased2 & VmcsInit.PROC2_ENCLV_EXITING) != 0) {
            vmcs.write(ENCLV_EXITING_BITMAP, -1L);
        }
    }

    private void addresses() {
        if (vm == 0) {
            vmcs.write(VIRTUAL_APIC_ADDRESS, vcpu.pages[Tdvps.VAPIC_PAGE]);
            vmcs.write(MSR_BITMAP, tdr.tdcxHpa(Tdcs.MSR_BITMAPS_PAGE));
            vmcs.write(VE_INFORMATION_ADDRESS, vcpu.pages[0]);
        } else {
            vmcs.write(VIRTUAL_APIC_ADDRESS, ModuleState.NULL_PA);
            vmcs.write(MSR_BITMAP, vcpu.pages[Tdvps.vmcsPage(vm) + 1]);
            vmcs.write(VE_INFORMATION_ADDRESS, ModuleState.NULL_PA);
        }
        long zero = tdr.tdcxHpa(Tdcs.ZERO_PAGE);
        vmcs.write(LOW_PASID_DIRECTORY, zero);
        vmcs.write(HIGH_PASID_DIRECTORY, zero);
        vmcs.write(SHARED_EPTP, zero);
        vmcs.write(GUEST_TD_HKID, tdr.keyId());
    }

    private void controls() {
        var base = vm == 0 ? config.td : config.l2;
        long tertiary = (base.procbased3 & ~VmcsInit.PROC3_GPAW) | (tdcs.gpaw() ? VmcsInit.PROC3_GPAW : 0);
        if (config.ddpd != tdcs.cpuidFlag(Tdcs.DDPD)) {
            tertiary |= VmcsInit.PROC3_VIRT_SPEC_CTRL;
        }
        vmcs.write(VM_EXIT_CONTROLS, VirtualVmx.exit(base.exit, tdcs));
        vmcs.write(VM_ENTRY_CONTROLS, VirtualVmx.entry(base.entry, tdcs));
        vmcs.write(PIN_BASED_CONTROLS, base.pinbased);
        vmcs.write(PROC_BASED_CONTROLS, VirtualVmx.procbased(base.procbased, tdcs));
        vmcs.write(SECONDARY_PROC_BASED_CONTROLS, VirtualVmx.procbased2(base.procbased2, tdcs));
        vmcs.write(TERTIARY_PROC_BASED_CONTROLS, tertiary);
        vmcs.write(TSC_MULTIPLIER, tdcs.u64(Tdcs.TSC_MULTIPLIER));
        vmcs.write(TSC_OFFSET, tdcs.u64(Tdcs.TSC_OFFSET));
        vmcs.write(EPTP, tdcs.septp(tdr, vm));
    }

    private void controlRegisterMasks() {
        if (vm != 0) {
            vmcs.write(CR0_GUEST_HOST_MASK, -1L);
            vmcs.write(CR0_READ_SHADOW, VmcsInit.CR0);
            vmcs.write(CR4_GUEST_HOST_MASK, -1L);
            vmcs.write(CR4_READ_SHADOW, VmcsInit.CR4);
            return;
        }
        vmcs.write(CR0_GUEST_HOST_MASK, ((config.vmxCr0Fixed0 | ~config.vmxCr0Fixed1) & ~VmcsInit.CR0_PG) | VmcsInit.CR0_PE
                | VmcsInit.CR0_HIDDEN);
        vmcs.write(CR0_READ_SHADOW, config.vmxCr0Fixed0 | VmcsInit.CR0);
        vmcs.write(CR4_GUEST_HOST_MASK, config.vmxCr4Fixed0 | ~config.vmxCr4Fixed1 | VmcsInit.CR4_HIDDEN
                | VirtualVmx.hiddenCr4(tdcs));
        vmcs.write(CR4_READ_SHADOW, (config.vmxCr4Fixed0 & ~VmcsInit.CR4_VMXE) | VmcsInit.CR4_MCE);
    }

    private void shadows() {
        vcpu.u64(Tdvps.SHADOW_CR0_GUEST_HOST_MASK + 8 * vm, vm == 0 ? vmcs.read(CR0_GUEST_HOST_MASK) : -1L);
        vcpu.u64(Tdvps.SHADOW_CR0_READ_SHADOW + 8 * vm, vm == 0 ? vmcs.read(CR0_READ_SHADOW) : 0);
        vcpu.u64(Tdvps.SHADOW_CR4_GUEST_HOST_MASK + 8 * vm, vm == 0 ? vmcs.read(CR4_GUEST_HOST_MASK) : -1L);
        vcpu.u64(Tdvps.SHADOW_CR4_READ_SHADOW + 8 * vm, vm == 0 ? vmcs.read(CR4_READ_SHADOW) : 0);
    }
}
