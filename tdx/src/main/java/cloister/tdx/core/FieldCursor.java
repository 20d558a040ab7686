package cloister.tdx.core;

import cloister.spec.tdx.CpuidTable;
import cloister.spec.tdx.FieldId;
import cloister.spec.tdx.FieldTable;
import cloister.spec.tdx.FieldTable.Field;

/// A position in the sequence of all elements of a metadata context. The fields of a VCPU come in the order TD VMCS, TDVPS, and
/// within TDVPS the VMCS of each L2 VM where its page is. [TDX-ABI "Metadata Access"]
final class FieldCursor {
    static final int CPUID_CLASS = 20;
    static final int FIRST_L2_VMCS_CLASS = 36;
    static final int L2_CLASS_STRIDE = 8;
    private static final int VP_FIELDS_PER_L2_VM = 3;
    private static final int MAX_L2_VMS = Tdcs.MAX_L2_VMS;

    private final int l2Vms;
    private FieldTable table;
    private int limit;
    private int index;
    private long id;

    /// @param context [FieldId#CONTEXT_SYS] and so on
    /// @param id      a field identifier with that context, or none for the first
    FieldCursor(int context, long id, int l2Vms) {
        this.l2Vms = l2Vms;
        this.id = id;
        int classCode = FieldId.classCode(id);
        switch (context) {
            case FieldId.CONTEXT_SYS -> select(FieldTable.SYS);
            case FieldId.CONTEXT_TD -> select(FieldTable.TD);
            default -> select(FieldId.isNone(id) || classCode == 0 ? FieldTable.TD_VMCS
                    : isL2Vmcs(classCode) ? FieldTable.L2_VMCS : FieldTable.VP);
        }
        index = FieldId.isNone(id) ? -1 : find();
    }

    private static boolean isL2Vmcs(int classCode) {
        return classCode >= FIRST_L2_VMCS_CLASS && (classCode - FIRST_L2_VMCS_CLASS) % L2_CLASS_STRIDE == 0
                && classCode < FIRST_L2_VMCS_CLASS + MAX_L2_VMS * L2_CLASS_STRIDE;
    }

    private void select(FieldTable selected) {
        table = selected;
        int unused = MAX_L2_VMS - l2Vms;
        limit = selected.fields().size() - (selected == FieldTable.TD ? unused
                : selected == FieldTable.VP ? VP_FIELDS_PER_L2_VM * unused : 0);
    }

    private boolean isCpuid() {
        return table == FieldTable.TD && FieldId.classCode(id) == CPUID_CLASS;
    }

    private int find() {
        int classCode = table == FieldTable.L2_VMCS ? 0 : FieldId.classCode(id);
        return table.find(classCode, isCpuid() ? FieldId.code(id) & 1 : FieldId.code(id), limit);
    }

    /// The row of the position, or null when the identifier names no field.
    Field field() {
        return index < 0 ? null : table.fields().get(index);
    }

    long id() {
        return id;
    }

    boolean isEnd() {
        return FieldId.isNone(id);
    }

    /// Whether the position is the first element of a field, with the field's element size.
    boolean isStartOfField() {
        var field = field();
        int distance = FieldId.code(id) - field.code();
        return distance % field.stride() == 0 && distance / field.stride() % field.elements() == 0
                && FieldId.sizeCode(id) == FieldId.sizeCode(field.id());
    }

    /// Leaves user-given parts of the identifier out.
    void normalize() {
        id = FieldId.withCode(FieldId.withClass(field().id(), FieldId.classCode(id)), FieldId.code(id));
    }

    /// Moves to the next element, or to the next field, that `access` can read or write.
    void advance(boolean element, FieldAccess access, boolean debug) {
        do {
            step(element);
        } while (!isEnd() && (access.isWrite() ? access.writeMask(field(), debug) : access.readMask(field(), debug)) == 0);
    }

    private void step(boolean element) {
        int classCode = FieldId.classCode(id);
        if (isEnd()) {
            index = 0;
            id = table.fields().get(0).id();
            arrive(classCode);
            return;
        }
        if (isCpuid()) {
            if (nextCpuid(element)) {
                return;
            }
        } else if (stepInRow(element)) {
            return;
        }
        if (index == limit - 1) {
            if (!leaveTable(classCode)) {
                return;
            }
        } else {
            index++;
            id = field().id();
        }
        arrive(classCode);
    }

    private boolean stepInRow(boolean element) {
        var field = field();
        int distance = (FieldId.code(id) - field.code()) / field.stride();
        if (element && distance < field.count() * field.elements() - 1) {
            id = FieldId.withCode(id, FieldId.code(id) + field.stride());
            return true;
        }
        if (!element && distance / field.elements() < field.count() - 1) {
            id = FieldId.withCode(id, FieldId.code(id) + field.elements() * field.stride());
            return true;
        }
        return false;
    }

    /// @return false at the end of the context
    private boolean leaveTable(int classCode) {
        if (table == FieldTable.TD_VMCS || table == FieldTable.L2_VMCS) {
            int next = 0;
            if (table == FieldTable.L2_VMCS) {
                next = FieldTable.VP.find(classCode, 0, FieldTable.VP.fields().size()) + 1;
            }
            select(FieldTable.VP);
            index = next;
            id = field().id();
            return true;
        }
        index = -1;
        id = FieldId.NONE;
        return false;
    }

    private void arrive(int previousClass) {
        int classCode = previousClass;
        if (isCpuid()) {
            cpuid(0);
        }
        if (table == FieldTable.VP && isL2Vmcs(FieldId.classCode(id))) {
            classCode = FieldId.classCode(id);
            select(FieldTable.L2_VMCS);
            index = 0;
            id = field().id();
        }
        if (table == FieldTable.L2_VMCS) {
            id = FieldId.withClass(id, classCode);
        }
    }

    // CPUID fields: the code holds element 0, sub-leaf 7:1, "no sub-leaf" 8, leaf 15:9, leaf bit 31 16.

    static int cpuidLeaf(long id) {
        return (((int) id >>> 9) & 0x7f) | ((((int) id >>> 16) & 1) << 31);
    }

    static int cpuidSubleaf(long id) {
        return (((int) id >>> 8) & 1) != 0 ? CpuidTable.ANY : ((int) id >>> 1) & 0x7f;
    }

    private void cpuid(int row) {
        var cpuid = CpuidTable.rows().get(row);
        boolean any = cpuid.subleaf() == CpuidTable.ANY;
        int code = ((cpuid.subleaf() & 0x7f) << 1) | (any ? 1 << 8 : 0) | ((cpuid.leaf() & 0x7f) << 9)
                | (cpuid.leaf() >>> 31 << 16);
        id = FieldId.withCode(id, code);
    }

    private boolean nextCpuid(boolean element) {
        if (element && (id & 1) == 0) {
            id++;
            return true;
        }
        int row = CpuidTable.find(cpuidLeaf(id), cpuidSubleaf(id)) + 1;
        while (row < CpuidTable.rows().size() && !CpuidTable.rows().get(row).valid()) {
            row++;
        }
        if (row >= CpuidTable.rows().size()) {
            return false;
        }
        cpuid(row);
        return true;
    }
}
