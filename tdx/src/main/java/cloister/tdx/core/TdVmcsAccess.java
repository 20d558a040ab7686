package cloister.tdx.core;

import static cloister.spec.vmx.VmcsField.*;

import cloister.spec.tdx.TdxStatus;
import cloister.spec.vmx.VmcsField;
import cloister.tdx.port.Vmcs;

/// Writes to the TD VMCS that the module checks or remembers. [TDX-ABI "TD VMCS"]
final class TdVmcsAccess {
    private static final int MAX_VECTOR = 255;

    private final Tdcs tdcs;
    private final Tdvps vcpu;
    private final Vmcs vmcs;
    private final PlatformConfig config;
    private final VmcsValueCheck check;

    TdVmcsAccess(LpState lp, Tdcs tdcs, Tdvps vcpu, Vmcs vmcs) {
        this.tdcs = tdcs;
        this.vcpu = vcpu;
        this.vmcs = vmcs;
        this.config = lp.module.config;
        this.check = new VmcsValueCheck(lp, tdcs);
    }

    /// @param written the bits that the caller writes
    void write(VmcsField target, long asked, long written) throws LeafFailure {
        long value = asked;
        switch (target) {
            case GUEST_CR0 -> value = VmcsValueCheck.guestOwned(asked, vmcs.read(GUEST_CR0), vmcs.read(CR0_GUEST_HOST_MASK),
                    vmcs.read(CR0_READ_SHADOW));
            case GUEST_CR4 -> value = VmcsValueCheck.guestOwned(asked, vmcs.read(GUEST_CR4), vmcs.read(CR4_GUEST_HOST_MASK),
                    vmcs.read(CR4_READ_SHADOW));
            case GUEST_CR3 -> check.requireCr3(asked);
            case GUEST_DEBUGCTL -> value = check.debugctl(asked);
            case PIN_BASED_CONTROLS -> {
                if ((asked & VmcsInit.PIN_POSTED_INTERRUPTS) != 0) {
                    requirePostedInterrupts();
                }
                vcpu.u32(Tdvps.SHADOW_PINBASED_EXEC_CTLS, (int) asked);
            }
            case POSTED_INTERRUPT_DESCRIPTOR_ADDRESS -> vcpu.u64(Tdvps.SHADOW_PID_HPA, asked);
            case POSTED_INTERRUPT_NOTIFICATION_VECTOR -> {
                if (asked > MAX_VECTOR) {
                    throw VmcsValueCheck.invalid();
                }
                vcpu.u16(Tdvps.SHADOW_POSTED_INT_NOTIFICATION_VECTOR, (int) asked);
            }
            case SECONDARY_PROC_BASED_CONTROLS -> {
                VmcsValueCheck.requireAllowed(asked, written, config.vmxProcbased2);
                if ((asked & VmcsInit.PROC2_PML) != 0 && (!tdcs.debug() || vmcs.read(PML_ADDRESS) < 0)) {
                    throw VmcsValueCheck.invalid();
                }
            }
            case SHARED_EPTP -> vcpu.u64(Tdvps.SHADOW_SHARED_EPTP, asked);
            default -> {
            }
        }
        vmcs.write(target, value);
    }

    private void requirePostedInterrupts() throws LeafFailure {
        if (vmcs.read(POSTED_INTERRUPT_NOTIFICATION_VECTOR) == VmcsInit.NO_NOTIFICATION_VECTOR) {
            throw new LeafFailure(TdxStatus.TD_VMCS_FIELD_NOT_INITIALIZED, POSTED_INTERRUPT_NOTIFICATION_VECTOR.encoding());
        }
        if (vmcs.read(POSTED_INTERRUPT_DESCRIPTOR_ADDRESS) == ModuleState.NULL_PA) {
            throw new LeafFailure(TdxStatus.TD_VMCS_FIELD_NOT_INITIALIZED, POSTED_INTERRUPT_DESCRIPTOR_ADDRESS.encoding());
        }
    }
}
