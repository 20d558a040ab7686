package cloister.tdx.core;

import static cloister.spec.vmx.VmcsField.*;

import cloister.spec.tdx.FieldId;
import cloister.spec.tdx.FieldTable.Field;
import cloister.spec.tdx.TdxStatus;
import cloister.spec.vmx.VmcsField;
import cloister.tdx.exits.SpecCtrl;
import cloister.tdx.port.Vmcs;

/// The fields of a VCPU: TDVPS and its VMCSs. [TDX-ABI "TDVPS Metadata Fields"]
public final class VpMetadata extends Metadata {
    private static final int MSR_BITMAPS = 1;
    private static final int SHADOW_MSR_BITMAPS = 2;
    private static final long NULL_PA = ModuleState.NULL_PA;
    private static final int PAGE = 4096;
    private static final int POSTED_INTERRUPT_DESCRIPTOR = 64;
    private static final int MAX_VECTOR = 255;
    private static final long TR = 1 << 6;
    private static final long BTS = 1 << 7;
    private static final long UNCORE_PMI = 1 << 13;
    private static final long CR3_RESERVED = 0x1ffL << 52 | 1L << 63;
    private static final long LAM = 3L << 61;
    private static final long EPTP_SUPERVISOR_SHADOW_STACK = 1 << 7;
    private static final long ENABLE_SHARED_EPTP = 1;
    private static final int XBUFF_HEADER_FIRST = 512 / 8;
    private static final int XBUFF_HEADER_LAST = 576 / 8 - 1;
    private static final int XFAM_PT = 8;
    private static final int XFAM_CET_S = 12;
    private static final int L2_CTLS_CODE = 0x50;
    private static final int TSC_DEADLINE_CODE = 0x58;

    private final LpState lp;
    private final ModuleState module;
    private final Tdr tdr;
    private final Tdcs tdcs;
    private final Tdvps vcpu;

    public VpMetadata(LpState lp, FieldAccess access, Tdr tdr, Tdcs tdcs, Tdvps vcpu) {
        super(FieldId.CONTEXT_VP, access, access.isHost() && tdcs.debug(), tdcs.numL2Vms());
        this.lp = lp;
        this.module = lp.module;
        this.tdr = tdr;
        this.tdcs = tdcs;
        this.vcpu = vcpu;
    }

    /// What kind of field an identifier names: 0 a VMCS, 1 and 2 MSR bitmaps, -1 the rest of TDVPS.
    private static int kind(long id) {
        int classCode = FieldId.classCode(id);
        if (classCode == 0) {
            return 0;
        }
        return classCode < FieldCursor.FIRST_L2_VMCS_CLASS ? -1
                : (classCode - FieldCursor.FIRST_L2_VMCS_CLASS) % FieldCursor.L2_CLASS_STRIDE;
    }

    private static int vm(long id) {
        int classCode = FieldId.classCode(id);
        return classCode < FieldCursor.FIRST_L2_VMCS_CLASS ? 0
                : (classCode - FieldCursor.FIRST_L2_VMCS_CLASS) / FieldCursor.L2_CLASS_STRIDE + 1;
    }

    private Vmcs vmcs(int vm) {
        return module.vcpu(vcpu.tdvprPa).vmcs()[vm];
    }

    private static LeafFailure incorrect() {
        return new LeafFailure(TdxStatus.METADATA_FIELD_ID_INCORRECT);
    }

    private static LeafFailure invalid() {
        return new LeafFailure(TdxStatus.METADATA_FIELD_VALUE_NOT_VALID);
    }

    private static VmcsField vmcsField(long id) throws LeafFailure {
        int code = FieldId.code(id);
        var field = VmcsField.isHighAccess(code) ? null : VmcsField.ofEncoding(code);
        if (field == null) {
            throw incorrect();
        }
        return field;
    }

    private int offset(Field field, long id) {
        return field.offset() + (FieldId.code(id) - field.code()) * field.elementBytes();
    }

    /// The offset of a word of an L2 VM's MSR bitmaps: the real ones follow the VMCS page, then the L1 VMM's.
    private static int bitmapOffset(int vm, long id, boolean shadow) {
        return PAGE * (Tdvps.vmcsPage(vm) + (shadow ? 2 : 1)) + 8 * FieldId.code(id);
    }

    @Override long get(Field field, long id) throws LeafFailure {
        int vm = vm(id);
        if (vm > tdcs.numL2Vms()) {
            throw incorrect();
        }
        return switch (kind(id)) {
            case 0 -> vm == 0 ? vmcs(0).read(vmcsField(id)) : readL2(vm, vmcsField(id));
            case MSR_BITMAPS -> vcpu.u64(bitmapOffset(vm, id, !access.isHost()));
            case SHADOW_MSR_BITMAPS -> vcpu.u64(bitmapOffset(vm, id, true));
            default -> readTdvps(field, id);
        };
    }

    private long readTdvps(Field field, long id) {
        return switch (field.name()) {
            case "VCPU_STATE_DETAILS" -> {
                long rvi = vmcs(0).read(GUEST_INTERRUPT_STATUS) & 0xf0;
                yield rvi > (vcpu.u8(Tdvps.VAPIC_PPR) & 0xf0) ? 1 : 0;
            }
            case "IA32_SPEC_CTRL" -> SpecCtrl.virtual(module.config, tdcs, vcpu.u64(Tdvps.SPEC_CTRL));
            default -> vcpu.read(offset(field, id), field.elementBytes());
        };
    }

    /// An L2 VMM's view of a field differs from what the processor uses.
    private long readL2(int vm, VmcsField field) {
        long value = vmcs(vm).read(field);
        return switch (field) {
            case SHARED_EPTP -> vcpu.u64(Tdvps.SHADOW_SHARED_EPTP + 8 * vm);
            case VIRTUAL_APIC_ADDRESS -> vcpu.u64(Tdvps.L2_VAPIC_GPA + 8 * vm);
            default -> access.isHost() ? value : switch (field) {
                case CR0_GUEST_HOST_MASK -> vcpu.u64(Tdvps.SHADOW_CR0_GUEST_HOST_MASK + 8 * vm);
                case CR0_READ_SHADOW -> vcpu.u64(Tdvps.SHADOW_CR0_READ_SHADOW + 8 * vm);
                case CR4_GUEST_HOST_MASK -> vcpu.u64(Tdvps.SHADOW_CR4_GUEST_HOST_MASK + 8 * vm);
                case CR4_READ_SHADOW -> vcpu.u64(Tdvps.SHADOW_CR4_READ_SHADOW + 8 * vm);
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
        return value & ~mask | vcpu.u64(shadowOffset) & mask;
    }

    @Override long put(Field field, long id, long asked, long requestMask) throws LeafFailure {
        long old = get(field, id) & field.elementMask();
        long writeMask = access.writeMask(field, debug);
        long mask = writeMask & requestMask;
        if (mask == 0) {
            throw new LeafFailure(TdxStatus.METADATA_FIELD_NOT_WRITABLE);
        }
        long current = mask != field.elementMask() ? old : 0;
        if ((field.has('g') || field.has('h')) && current < 0) {
            current &= writeMask; // "no address": its bits outside the mask do not count
        }
        requireUnchanged(current, asked, requestMask, writeMask);
        long value = current & ~mask | asked & mask;
        checkAddress(field, id, value);
        if (kind(id) == 0) {
            writeVmcs(vm(id), vmcsField(id), field, value, mask);
        } else if (kind(id) == MSR_BITMAPS) {
            vcpu.u64(bitmapOffset(vm(id), id, true), value);
            vcpu.u64(bitmapOffset(vm(id), id, false), value | tdcs.u64(Tdcs.MSR_BITMAPS + 8 * FieldId.code(id)));
        } else {
            writeTdvps(field, id, value);
        }
        return old & access.readMask(field, debug);
    }

    private void checkAddress(Field field, long id, long value) throws LeafFailure {
        if (field.has('h') && field.has('s')) {
            boolean descriptor = kind(id) == 0 && FieldId.code(id) == POSTED_INTERRUPT_DESCRIPTOR_ADDRESS.encoding();
            if (!module.isSharedHpa(value, descriptor ? POSTED_INTERRUPT_DESCRIPTOR : PAGE)) {
                throw invalid();
            }
        } else if (field.has('g') && field.has('p') && !Gpa.isValid(value, tdcs, true)) {
            throw invalid();
        }
    }

    private void writeVmcs(int vm, VmcsField target, Field field, long asked, long mask) throws LeafFailure {
        long value = asked;
        if (field.has('W')) {
            if (vm != 0) {
                writeL2(vm, target, asked, mask);
                return;
            }
            value = checkTd(target, asked, mask);
        }
        // Even a read-only field: the module runs only where VMWRITE takes any field. [SDM "IA32_VMX_MISC" bit 29]
        vmcs(vm).write(target, value);
    }

    /// Checks a value for the TD VMCS and updates what the module remembers of it.
    private long checkTd(VmcsField target, long value, long mask) throws LeafFailure {
        var vmcs = vmcs(0);
        switch (target) {
            case GUEST_CR0 -> {
                return owned(value, vmcs.read(GUEST_CR0), vmcs.read(CR0_GUEST_HOST_MASK), vmcs.read(CR0_READ_SHADOW));
            }
            case GUEST_CR4 -> {
                return owned(value, vmcs.read(GUEST_CR4), vmcs.read(CR4_GUEST_HOST_MASK), vmcs.read(CR4_READ_SHADOW));
            }
            case GUEST_CR3 -> checkCr3(value);
            case GUEST_DEBUGCTL -> {
                return debugctl(value);
            }
            case PIN_BASED_CONTROLS -> {
                if ((value & VmcsInit.PIN_POSTED_INTERRUPTS) != 0) {
                    requirePostedInterrupts(vmcs);
                }
                vcpu.u32(Tdvps.SHADOW_PINBASED_EXEC_CTLS, (int) value);
            }
            case POSTED_INTERRUPT_DESCRIPTOR_ADDRESS -> vcpu.u64(Tdvps.SHADOW_PID_HPA, value);
            case POSTED_INTERRUPT_NOTIFICATION_VECTOR -> {
                if (value > MAX_VECTOR) {
                    throw invalid();
                }
                vcpu.u16(Tdvps.SHADOW_POSTED_INT_NOTIFICATION_VECTOR, (int) value);
            }
            case SECONDARY_PROC_BASED_CONTROLS -> {
                requireAllowed(value, mask, module.config.vmxProcbased2);
                if ((value & VmcsInit.PROC2_PML) != 0 && (!tdcs.debug() || vmcs.read(PML_ADDRESS) < 0)) {
                    throw invalid();
                }
            }
            case SHARED_EPTP -> vcpu.u64(Tdvps.SHADOW_SHARED_EPTP, value);
            default -> {
            }
        }
        return value;
    }

    private static void requirePostedInterrupts(Vmcs vmcs) throws LeafFailure {
        if (vmcs.read(POSTED_INTERRUPT_NOTIFICATION_VECTOR) == VmcsInit.NO_NOTIFICATION_VECTOR) {
            throw new LeafFailure(TdxStatus.TD_VMCS_FIELD_NOT_INITIALIZED, POSTED_INTERRUPT_NOTIFICATION_VECTOR.encoding());
        }
        if (vmcs.read(POSTED_INTERRUPT_DESCRIPTOR_ADDRESS) == NULL_PA) {
            throw new LeafFailure(TdxStatus.TD_VMCS_FIELD_NOT_INITIALIZED, POSTED_INTERRUPT_DESCRIPTOR_ADDRESS.encoding());
        }
    }

    private static void requireAllowed(long value, long mask, long capability) throws LeafFailure {
        if ((mask & (~value & capability | value & ~(capability >>> 32)) & 0xffff_ffffL) != 0) {
            throw invalid();
        }
    }

    private static long owned(long value, long old, long mask, long shadow) throws LeafFailure {
        if ((value & mask) != (shadow & mask)) {
            throw invalid();
        }
        return old & mask | value & ~mask;
    }

    private void checkCr3(long value) throws LeafFailure {
        long address = module.config.lam ? value & ~LAM : value;
        if ((value & CR3_RESERVED) != 0 || !Gpa.isValid(address, tdcs, true)) {
            throw invalid();
        }
    }

    private long debugctl(long value) throws LeafFailure {
        if ((value & (TR | BTS)) == TR && !tdcs.debug()) {
            throw invalid();
        }
        long uncore = lp.cpu.seamVmcs().read(GUEST_DEBUGCTL) & UNCORE_PMI;
        return value & ~UNCORE_PMI | uncore;
    }

    private void writeL2(int vm, VmcsField target, long asked, long mask) throws LeafFailure {
        var vmcs = vmcs(vm);
        long value = asked;
        boolean debugger = access == FieldAccess.HOST_WRITE && tdcs.debug();
        switch (target) {
            case CR0_GUEST_HOST_MASK -> vcpu.u64(Tdvps.SHADOW_CR0_GUEST_HOST_MASK + 8 * vm, value);
            case CR0_READ_SHADOW -> vcpu.u64(Tdvps.SHADOW_CR0_READ_SHADOW + 8 * vm, value);
            case CR4_GUEST_HOST_MASK -> vcpu.u64(Tdvps.SHADOW_CR4_GUEST_HOST_MASK + 8 * vm, value);
            case CR4_READ_SHADOW -> vcpu.u64(Tdvps.SHADOW_CR4_READ_SHADOW + 8 * vm, value);
            case EPTP -> {
                if ((value & EPTP_SUPERVISOR_SHADOW_STACK) != 0 && !tdcs.xfam(XFAM_CET_S)) {
                    throw invalid();
                }
            }
            case GUEST_CR0 -> value = owned(value, vmcs.read(GUEST_CR0), vcpu.u64(Tdvps.BASE_L2_CR0_GUEST_HOST_MASK),
                    vcpu.u64(Tdvps.BASE_L2_CR0_READ_SHADOW));
            case GUEST_CR4 -> value = owned(value, vmcs.read(GUEST_CR4), vcpu.u64(Tdvps.BASE_L2_CR4_GUEST_HOST_MASK),
                    vcpu.u64(Tdvps.BASE_L2_CR4_READ_SHADOW));
            case GUEST_CR3 -> checkCr3(value);
            case GUEST_DEBUGCTL -> value = debugctl(value);
            case PLE_GAP, PLE_WINDOW -> value = pauseLoop(vm, target, value);
            case PROC_BASED_CONTROLS -> requireAllowed(value, mask, debugger ? module.config.vmxTrueProcbased
                    : tdcs.u64(Tdcs.VIRT_VMX_TRUE_PROCBASED_CTLS));
            case SECONDARY_PROC_BASED_CONTROLS -> requireAllowed(value, mask, debugger ? module.config.vmxProcbased2
                    : tdcs.u64(Tdcs.VIRT_VMX_PROCBASED_CTLS2));
            case TERTIARY_PROC_BASED_CONTROLS -> {
                long allowed = debugger ? module.config.vmxProcbased3 : tdcs.u64(Tdcs.VIRT_VMX_PROCBASED_CTLS3);
                if ((value & mask & ~allowed) != 0) {
                    throw invalid();
                }
            }
            case SHARED_EPTP -> {
                vcpu.u64(Tdvps.SHADOW_SHARED_EPTP + 8 * vm, value);
                if ((vcpu.u64(Tdvps.L2_CTLS + 8 * vm) & ENABLE_SHARED_EPTP) == 0) {
                    return;
                }
            }
            case VIRTUAL_APIC_ADDRESS -> {
                vcpu.u64(Tdvps.L2_VAPIC_GPA + 8 * vm, value);
                vcpu.u64(Tdvps.L2_VAPIC_HPA + 8 * vm, NULL_PA);
                return;
            }
            default -> {
            }
        }
        switch (target) {
            case CR0_GUEST_HOST_MASK, CR0_READ_SHADOW -> combine(vm, CR0_GUEST_HOST_MASK, CR0_READ_SHADOW,
                    Tdvps.BASE_L2_CR0_GUEST_HOST_MASK, Tdvps.SHADOW_CR0_GUEST_HOST_MASK, Tdvps.SHADOW_CR0_READ_SHADOW);
            case CR4_GUEST_HOST_MASK, CR4_READ_SHADOW -> combine(vm, CR4_GUEST_HOST_MASK, CR4_READ_SHADOW,
                    Tdvps.BASE_L2_CR4_GUEST_HOST_MASK, Tdvps.SHADOW_CR4_GUEST_HOST_MASK, Tdvps.SHADOW_CR4_READ_SHADOW);
            default -> vmcs.write(target, value);
        }
    }

    /// The mask and shadow that the processor uses: the L1 VMM's for its bits, the module's for the rest.
    private void combine(int vm, VmcsField mask, VmcsField shadow, int base, int l1Mask, int l1Shadow) {
        long own = vcpu.u64(base);
        long theirs = vcpu.u64(l1Mask + 8 * vm);
        vmcs(vm).write(mask, own | theirs);
        vmcs(vm).write(shadow, own & ~theirs & vcpu.u64(base + 8) | theirs & vcpu.u64(l1Shadow + 8 * vm));
    }

    /// PLE times are in ticks of the TD's TSC for an L1 VMM.
    private long pauseLoop(int vm, VmcsField target, long value) throws LeafFailure {
        if (access != FieldAccess.GUEST_WRITE) {
            return value;
        }
        vcpu.u32((target == PLE_GAP ? Tdvps.SHADOW_PLE_GAP : Tdvps.SHADOW_PLE_WINDOW) + 4 * vm, (int) value);
        long ticks = value - tdcs.u64(Tdcs.TSC_OFFSET);
        long multiplier = tdcs.u64(Tdcs.TSC_MULTIPLIER);
        if (Long.compareUnsigned(ticks >>> 16, multiplier) >= 0) {
            throw invalid();
        }
        long scaled = Ticks.scaled(ticks, 48, multiplier);
        if (scaled >>> 32 != 0) {
            throw invalid();
        }
        return scaled;
    }

    private void writeTdvps(Field field, long id, long value) throws LeafFailure {
        int code = FieldId.code(id);
        long stored = value;
        switch (field.name()) {
            case "XBUFF" -> {
                if (code >= XBUFF_HEADER_FIRST && code <= XBUFF_HEADER_LAST
                        || tdcs.xfam(XFAM_PT) && code == tdcs.u32(Tdcs.XBUFF_OFFSETS + 4 * XFAM_PT) / 8) {
                    throw new LeafFailure(TdxStatus.METADATA_FIELD_NOT_WRITABLE);
                }
            }
            case "IA32_SPEC_CTRL" -> stored = SpecCtrl.real(module.config, tdcs, value);
            case "XFAM" -> throw new LeafFailure(TdxStatus.METADATA_FIELD_NOT_WRITABLE);
            case "L2_CTLS" -> l2Controls(code - L2_CTLS_CODE, value);
            case "TSC_DEADLINE" -> deadline(code - TSC_DEADLINE_CODE, value);
            default -> {
            }
        }
        vcpu.write(offset(field, id), field.elementBytes(), stored);
    }

    private void l2Controls(int vm, long value) {
        if (vm >= 1 && vm <= tdcs.numL2Vms()) {
            long shadow = vcpu.u64(Tdvps.SHADOW_SHARED_EPTP + 8 * vm);
            boolean enabled = (value & ENABLE_SHARED_EPTP) != 0 && shadow != NULL_PA;
            vmcs(vm).write(SHARED_EPTP, enabled ? shadow : tdr.tdcxHpa(Tdcs.ZERO_PAGE));
        }
    }

    private void deadline(int vm, long value) throws LeafFailure {
        if (vm < 1 || vm > tdcs.numL2Vms() || value == -1L) {
            return;
        }
        long nativeTsc = lp.cpu.tsc();
        long multiplier = tdcs.u64(Tdcs.TSC_MULTIPLIER);
        long offset = tdcs.u64(Tdcs.TSC_OFFSET);
        long now = Ticks.product48(nativeTsc, multiplier) + offset;
        long deadline = nativeTsc;
        if (Long.compareUnsigned(value, now) > 0) {
            long ticks = value - offset;
            if (Long.compareUnsigned(ticks >>> 16, multiplier) >= 0) {
                throw new LeafFailure(TdxStatus.OPERAND_INVALID);
            }
            deadline = Ticks.scaled(ticks, 48, multiplier);
            if (deadline == 0 || deadline - nativeTsc < 0) {
                throw new LeafFailure(TdxStatus.OPERAND_INVALID);
            }
        }
        vcpu.u64(Tdvps.SHADOW_TSC_DEADLINE + 8 * vm, deadline);
    }
}
