package cloister.tdx.core;

import static cloister.spec.vmx.VmcsField.GUEST_INTERRUPT_STATUS;
import static cloister.spec.vmx.VmcsField.POSTED_INTERRUPT_DESCRIPTOR_ADDRESS;

import cloister.spec.tdx.FieldId;
import cloister.spec.tdx.FieldTable.Field;
import cloister.spec.tdx.TdxStatus;
import cloister.spec.vmx.VmcsField;
import cloister.tdx.port.Vmcs;

/// The fields of a VCPU: TDVPS and its VMCSs. [TDX-ABI "TDVPS Metadata Fields"]
public final class VpMetadata extends Metadata {
    private static final int MSR_BITMAPS = 1;
    private static final int SHADOW_MSR_BITMAPS = 2;
    private static final int PAGE = 4096;
    private static final int POSTED_INTERRUPT_DESCRIPTOR = 64;
    private static final int XBUFF_HEADER_FIRST = 512 / 8;
    private static final int XBUFF_HEADER_LAST = 576 / 8 - 1;
    private static final int XFAM_PT = 8;
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

    private L2VmcsAccess l2(int vm) {
        return new L2VmcsAccess(lp, tdr, tdcs, vcpu, vm, access);
    }

    private static LeafFailure incorrect() {
        return new LeafFailure(TdxStatus.METADATA_FIELD_ID_INCORRECT);
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
            case 0 -> vm == 0 ? vmcs(0).read(vmcsField(id)) : l2(vm).read(vmcsField(id));
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
        long value = (current & ~mask) | (asked & mask);
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
                throw VmcsValueCheck.invalid();
            }
        } else if (field.has('g') && field.has('p') && !Gpa.isValid(value, tdcs, true)) {
            throw VmcsValueCheck.invalid();
        }
    }

    private void writeVmcs(int vm, VmcsField target, Field field, long value, long mask) throws LeafFailure {
        if (!field.has('W')) {
            // Even a read-only field: the module runs only where VMWRITE takes any field. [SDM Vol. 3 "Miscellaneous Data" bit 29]
            vmcs(vm).write(target, value);
        } else if (vm == 0) {
            new TdVmcsAccess(lp, tdcs, vcpu, vmcs(0)).write(target, value, mask);
        } else {
            l2(vm).write(target, value, mask);
        }
    }

    private void writeTdvps(Field field, long id, long value) throws LeafFailure {
        int code = FieldId.code(id);
        long stored = value;
        switch (field.name()) {
            case "XBUFF" -> {
                if ((code >= XBUFF_HEADER_FIRST && code <= XBUFF_HEADER_LAST)
                        || (tdcs.xfam(XFAM_PT) && code == tdcs.u32(Tdcs.XBUFF_OFFSETS + 4 * XFAM_PT) / 8)) {
                    throw new LeafFailure(TdxStatus.METADATA_FIELD_NOT_WRITABLE);
                }
            }
            case "IA32_SPEC_CTRL" -> stored = SpecCtrl.real(module.config, tdcs, value);
            case "XFAM" -> throw new LeafFailure(TdxStatus.METADATA_FIELD_NOT_WRITABLE);
            case "L2_CTLS" -> {
                if (isL2Vm(code - L2_CTLS_CODE)) {
                    l2(code - L2_CTLS_CODE).switchSharedEpt(value);
                }
            }
            case "TSC_DEADLINE" -> {
                if (isL2Vm(code - TSC_DEADLINE_CODE)) {
                    l2(code - TSC_DEADLINE_CODE).deadline(value);
                }
            }
            default -> {
            }
        }
        vcpu.write(offset(field, id), field.elementBytes(), stored);
    }

    /// Whether the TD has the VM; elements of the VM 0 and of VMs that it does not have are only memory.
    private boolean isL2Vm(int vm) {
        return vm >= 1 && vm <= tdcs.numL2Vms();
    }
}
