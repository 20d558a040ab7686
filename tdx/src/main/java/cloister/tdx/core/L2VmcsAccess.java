package cloister.tdx.core;

import static cloister.spec.vmx.VmcsField.*;

import cloister.spec.tdx.TdxStatus;
import cloister.spec.vmx.VmcsField;
import cloister.tdx.port.Vmcs;

/// The VMCS of an L2 VM, and what belongs to it in TDVPS, as its L1 VMM and the host see them: what the L1 VMM wrote last, which
/// the module combines with its own policy or translates for the processor. [TDX-BASE "TD Partitioning"]
final class L2VmcsAccess {
    private static final long NULL_PA = ModuleState.NULL_PA;
    private static final long EPTP_SUPERVISOR_SHADOW_STACK = 1 << 7;
    private static final long ENABLE_SHARED_EPTP = 1;
    private static final int XFAM_CET_S = 12;

    private final LpState lp;
    private final Tdr tdr;
    private final Tdcs tdcs;
    private final Tdvps vcpu;
    private final int vm;
    private final Vmcs vmcs;
    private final FieldAccess access;
    private final VmcsValueCheck check;

    /// @param vm 1 to 3, one that the TD has
    L2VmcsAccess(LpState lp, Tdr tdr, Tdcs tdcs, Tdvps vcpu, int vm, FieldAccess access) {
        this.lp = lp;
        this.tdr = tdr;
        this.tdcs = tdcs;
        this.vcpu = vcpu;
        this.vm = vm;
        this.vmcs = lp.module.vcpu(vcpu.tdvprPa).vmcs()[vm];
        this.access = access;
        this.check = new VmcsValueCheck(lp, tdcs);
    }

    /// The VM's word of an array in TDVPS that has one for each VM.
    private long word(int array) {
        return vcpu.u64(array + 8 * vm);
    }

    private void word(int array, long value) {
        vcpu.u64(array + 8 * vm, value);
    }

    long read(VmcsField field) {
        long value = vmcs.read(field);
        return switch (field) {
            case SHARED_EPTP -> word(Tdvps.SHADOW_SHARED_EPTP);
            case VIRTUAL_APIC_ADDRESS -> word(Tdvps.L2_VAPIC_GPA);
            default -> access.isHost() ? value : switch (field) {
                case CR0_GUEST_HOST_MASK -> word(Tdvps.SHADOW_CR0_GUEST_HOST_MASK);
                case CR0_READ_SHADOW -> word(Tdvps.SHADOW_CR0_READ_SHADOW);
                case CR4_GUEST_HOST_MASK -> word(Tdvps.SHADOW_CR4_GUEST_HOST_MASK);
                case CR4_READ_SHADOW -> word(Tdvps.SHADOW_CR4_READ_SHADOW);
                case GUEST_CR0 -> seen(value, Tdvps.BASE_L2_CR0_GUEST_HOST_MASK, Tdvps.BASE_L2_CR0_READ_SHADOW);
                case GUEST_CR4 -> seen(value, Tdvps.BASE_L2_CR4_GUEST_HOST_MASK, Tdvps.BASE_L2_CR4_READ_SHADOW);
                case PLE_GAP -> vcpu.u32(Tdvps.SHADOW_PLE_GAP + 4 * vm) & 0xffff_ffffL;
                case PLE_WINDOW -> vcpu.u32(Tdvps.SHADOW_PLE_WINDOW + 4 * vm) & 0xffff_ffffL;
                default -> value;
            };
        };
    }

    private long seen(long value, int maskOffset, int shadowOffset) {
        long mask = vcpu.u64(maskOffset);
        return (value & ~mask) | (vcpu.u64(shadowOffset) & mask);
    }

    /// @param written the bits that the caller writes
    void write(VmcsField target, long asked, long written) throws LeafFailure {
        switch (target) {
            case CR0_GUEST_HOST_MASK -> changeCr0(Tdvps.SHADOW_CR0_GUEST_HOST_MASK, asked);
            case CR0_READ_SHADOW -> changeCr0(Tdvps.SHADOW_CR0_READ_SHADOW, asked);
            case CR4_GUEST_HOST_MASK -> changeCr4(Tdvps.SHADOW_CR4_GUEST_HOST_MASK, asked);
            case CR4_READ_SHADOW -> changeCr4(Tdvps.SHADOW_CR4_READ_SHADOW, asked);
            case SHARED_EPTP -> {
                word(Tdvps.SHADOW_SHARED_EPTP, asked);
                if ((word(Tdvps.L2_CTLS) & ENABLE_SHARED_EPTP) != 0) {
                    vmcs.write(target, asked);
                }
            }
            case VIRTUAL_APIC_ADDRESS -> {
                word(Tdvps.L2_VAPIC_GPA, asked);
                word(Tdvps.L2_VAPIC_HPA, NULL_PA);
            }
            default -> vmcs.write(target, checked(target, asked, written));
        }
    }

    /// The value for the processor.
    private long checked(VmcsField target, long asked, long written) throws LeafFailure {
        var config = lp.module.config;
        boolean debugger = access == FieldAccess.HOST_WRITE && tdcs.debug();
        switch (target) {
            case EPTP -> {
                if ((asked & EPTP_SUPERVISOR_SHADOW_STACK) != 0 && !tdcs.xfam(XFAM_CET_S)) {
                    throw VmcsValueCheck.invalid();
                }
            }
            case GUEST_CR0 -> {
                return VmcsValueCheck.guestOwned(asked, vmcs.read(GUEST_CR0), vcpu.u64(Tdvps.BASE_L2_CR0_GUEST_HOST_MASK),
                        vcpu.u64(Tdvps.BASE_L2_CR0_READ_SHADOW));
            }
            case GUEST_CR4 -> {
                return VmcsValueCheck.guestOwned(asked, vmcs.read(GUEST_CR4), vcpu.u64(Tdvps.BASE_L2_CR4_GUEST_HOST_MASK),
                        vcpu.u64(Tdvps.BASE_L2_CR4_READ_SHADOW));
            }
            case GUEST_CR3 -> check.requireCr3(asked);
            case GUEST_DEBUGCTL -> {
                return check.debugctl(asked);
            }
            case PLE_GAP -> {
                return pauseLoopTime(Tdvps.SHADOW_PLE_GAP, asked);
            }
            case PLE_WINDOW -> {
                return pauseLoopTime(Tdvps.SHADOW_PLE_WINDOW, asked);
            }
            case PROC_BASED_CONTROLS -> VmcsValueCheck.requireAllowed(asked, written,
                    debugger ? config.vmxTrueProcbased : tdcs.u64(Tdcs.VIRT_VMX_TRUE_PROCBASED_CTLS));
            case SECONDARY_PROC_BASED_CONTROLS -> VmcsValueCheck.requireAllowed(asked, written,
                    debugger ? config.vmxProcbased2 : tdcs.u64(Tdcs.VIRT_VMX_PROCBASED_CTLS2));
            case TERTIARY_PROC_BASED_CONTROLS -> {
                long allowed = debugger ? config.vmxProcbased3 : tdcs.u64(Tdcs.VIRT_VMX_PROCBASED_CTLS3);
                if ((asked & written & ~allowed) != 0) {
                    throw VmcsValueCheck.invalid();
                }
            }
            default -> {
            }
        }
        return asked;
    }

    private void changeCr0(int shadow, long value) {
        word(shadow, value);
        combine(CR0_GUEST_HOST_MASK, CR0_READ_SHADOW, Tdvps.BASE_L2_CR0_GUEST_HOST_MASK,
                word(Tdvps.SHADOW_CR0_GUEST_HOST_MASK), word(Tdvps.SHADOW_CR0_READ_SHADOW));
    }

    private void changeCr4(int shadow, long value) {
        word(shadow, value);
        combine(CR4_GUEST_HOST_MASK, CR4_READ_SHADOW, Tdvps.BASE_L2_CR4_GUEST_HOST_MASK,
                word(Tdvps.SHADOW_CR4_GUEST_HOST_MASK), word(Tdvps.SHADOW_CR4_READ_SHADOW));
    }

    /// The mask and shadow that the processor uses: the L1 VMM's for its bits, the module's for the rest.
    private void combine(VmcsField mask, VmcsField shadow, int base, long l1Mask, long l1Shadow) {
        long own = vcpu.u64(base);
        vmcs.write(mask, own | l1Mask);
        vmcs.write(shadow, (own & ~l1Mask & vcpu.u64(base + 8)) | (l1Mask & l1Shadow));
    }

    /// The L1 VMM gives ticks of the TD's TSC, a debugger native ones. What the L1 VMM wrote stays even if it does not fit.
    private long pauseLoopTime(int shadow, long value) throws LeafFailure {
        if (access != FieldAccess.GUEST_WRITE) {
            return value;
        }
        vcpu.u32(shadow + 4 * vm, (int) value);
        long ticks = nativeTicks(value, TdxStatus.METADATA_FIELD_VALUE_NOT_VALID);
        if (ticks >>> 32 != 0) {
            throw VmcsValueCheck.invalid();
        }
        return ticks;
    }

    private long nativeTicks(long virtualTicks, TdxStatus overflow) throws LeafFailure {
        long ticks = virtualTicks - tdcs.u64(Tdcs.TSC_OFFSET);
        long multiplier = tdcs.u64(Tdcs.TSC_MULTIPLIER);
        if (Long.compareUnsigned(ticks >>> 16, multiplier) >= 0) {
            throw new LeafFailure(overflow);
        }
        return Ticks.scaled(ticks, 48, multiplier);
    }

    /// What a write of L2_CTLS switches: the shared EPT of the host or none.
    void switchSharedEpt(long controls) {
        long shared = word(Tdvps.SHADOW_SHARED_EPTP);
        boolean enabled = (controls & ENABLE_SHARED_EPTP) != 0 && shared != NULL_PA;
        vmcs.write(SHARED_EPTP, enabled ? shared : tdr.tdcxHpa(Tdcs.ZERO_PAGE));
    }

    /// What a write of TSC_DEADLINE sets: the deadline in native ticks, now if it has passed.
    void deadline(long value) throws LeafFailure {
        if (value == -1L) {
            return; // none
        }
        long nativeTsc = lp.cpu.tsc();
        long now = Ticks.product48(nativeTsc, tdcs.u64(Tdcs.TSC_MULTIPLIER)) + tdcs.u64(Tdcs.TSC_OFFSET);
        long deadline = nativeTsc;
        if (Long.compareUnsigned(value, now) > 0) {
            deadline = nativeTicks(value, TdxStatus.OPERAND_INVALID);
            if (deadline == 0 || deadline - nativeTsc < 0) {
                throw new LeafFailure(TdxStatus.OPERAND_INVALID);
            }
        }
        word(Tdvps.SHADOW_TSC_DEADLINE, deadline);
    }
}
