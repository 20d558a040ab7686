package cloister.tdx.core;

import cloister.memory.Poison;
import cloister.spec.tdx.FieldId;
import cloister.spec.tdx.FieldTable;
import cloister.spec.tdx.FieldTable.Field;
import cloister.tdx.inspect.Fields;
import java.util.ArrayList;
import java.util.List;

/// Reads metadata fields for a snapshot: all that are stored, whoever may read them.
final class FieldInspection {
    private static final int LAST_TDR_CLASS = 2;
    /// Rows that stand for a whole VMCS, whose fields have a table of their own.
    private static final String L2_VMCS = "L2_VMCS_";
    /// Computed at each read, not stored.
    private static final String VIRTUAL_TSC = "VIRTUAL_TSC";

    private FieldInspection() {
    }

    /// Reads one element of a field.
    private interface Element {
        long read(Field field, int index, long id) throws LeafFailure;
    }

    static Fields system(ModuleState module) {
        var metadata = new SysMetadata(module, FieldAccess.HOST_READ);
        return read(FieldTable.SYS.fields(), (field, index, id) -> metadata.get(field, id));
    }

    static Fields tdr(Tdr tdr) {
        return read(FieldTable.TD.fields().stream().filter(f -> f.classCode() <= LAST_TDR_CLASS).toList(),
                (field, index, id) -> raw(tdr, field, index));
    }

    static Fields tdcs(ModuleState module, Tdr tdr, Tdcs tdcs) {
        var metadata = new TdMetadata(module, FieldAccess.HOST_READ, tdr, tdcs);
        // Elements of CPUID_VALUES are named by leaf; here they come in the order of the table.
        return read(FieldTable.TD.fields().stream().filter(f -> f.classCode() > LAST_TDR_CLASS && visible(f, tdcs)).toList(),
                (field, index, id) -> field.classCode() == FieldCursor.CPUID_CLASS ? raw(tdcs, field, index)
                        : metadata.get(field, id));
    }

    static Fields tdvps(LpState observer, Tdr tdr, Tdcs tdcs, Tdvps vcpu) {
        boolean initialized = observer.module.vcpu(vcpu.tdvprPa) != null;
        var metadata = new VpMetadata(observer, FieldAccess.HOST_READ, tdr, tdcs, vcpu);
        return read(FieldTable.VP.fields().stream().filter(f -> visible(f, vcpu) && !f.name().startsWith(L2_VMCS)).toList(),
                (field, index, id) -> initialized ? metadata.get(field, id) : raw(vcpu, field, index));
    }

    static Fields tdVmcs(LpState observer, Tdr tdr, Tdcs tdcs, Tdvps vcpu) {
        if (observer.module.vcpu(vcpu.tdvprPa) == null) {
            return new Fields(List.of());
        }
        var metadata = new VpMetadata(observer, FieldAccess.HOST_READ, tdr, tdcs, vcpu);
        return read(FieldTable.TD_VMCS.fields(), (field, index, id) -> metadata.get(field, id));
    }

    /// The fields of the VMCS of an L2 VM.
    ///
    /// @param vm from 1
    static Fields l2Vmcs(LpState observer, Tdr tdr, Tdcs tdcs, Tdvps vcpu, int vm) {
        var metadata = new VpMetadata(observer, FieldAccess.HOST_READ, tdr, tdcs, vcpu);
        int classCode = FieldCursor.FIRST_L2_VMCS_CLASS + FieldCursor.L2_CLASS_STRIDE * (vm - 1);
        return read(FieldTable.L2_VMCS.fields(), (field, index, id) -> metadata.get(field, FieldId.withClass(id, classCode)));
    }

    private static boolean visible(Field field, Structure structure) {
        int end = field.offset() + field.count() * field.elements() * field.elementBytes();
        return !field.name().equals(VIRTUAL_TSC) && end <= structure.pages.length << 12;
    }

    private static long raw(Structure structure, Field field, int index) {
        return structure.read(field.offset() + index * field.elementBytes(), field.elementBytes());
    }

    /// Fields that the model lacks or whose lines the host has destroyed are left out.
    private static Fields read(List<Field> rows, Element element) {
        var result = new ArrayList<cloister.tdx.inspect.Field>();
        for (var field : rows) {
            try {
                int count = field.count() * field.elements();
                var values = new ArrayList<Long>(count);
                for (int i = 0; i < count; i++) {
                    long id = FieldId.withCode(field.id(), field.code() + i * field.stride());
                    values.add(element.read(field, i, id) & field.elementMask());
                }
                result.add(new cloister.tdx.inspect.Field(field.name(), field.elementBytes(), List.copyOf(values)));
            } catch (LeafFailure | Poison absent) {
                // Left out.
            }
        }
        return new Fields(List.copyOf(result));
    }
}
