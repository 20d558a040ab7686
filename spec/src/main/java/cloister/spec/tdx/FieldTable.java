package cloister.spec.tdx;

import java.util.List;

/// Metadata fields of the module, of a TD and of a VCPU. [TDX-ABI "Metadata (Non-Memory State) Fields"]
///
/// Columns of the rows: name, field identifier, number of fields, elements per field, offset in the control structure, then
/// read and write masks for the host of a production TD, the host of a debug TD, and the guest ("*" all bits of the element,
/// "-" none), then flags: h/g host or guest physical address, p/s private or shared, R/W special handling on read or write.
public final class FieldTable {
    /// The module's fields.
    public static final FieldTable SYS = new FieldTable(SysFields.ROWS);
    /// The fields of a TD.
    public static final FieldTable TD = new FieldTable(TdFields.ROWS);
    /// The fields of a VCPU in TDVPS.
    public static final FieldTable VP = new FieldTable(VpFields.ROWS);
    /// The fields of a VCPU in its TD VMCS.
    public static final FieldTable TD_VMCS = new FieldTable(TdVmcsFields.ROWS);
    /// The fields of a VCPU in the VMCS of an L2 VM.
    public static final FieldTable L2_VMCS = new FieldTable(L2VmcsFields.ROWS);

    private final List<Field> fields;

    /// One row.
    ///
    /// @param id       field identifier of the first element of the first field
    /// @param count    number of consecutive fields
    /// @param elements elements in each
    /// @param offset   bytes into TDR, TDCS or TDVPS
    /// @param flags    see [FieldTable]
    public record Field(String name, long id, int count, int elements, int offset, long hostRead, long hostWrite,
            long debugRead, long debugWrite, long guestRead, long guestWrite, String flags) {
        /// The code of the first element.
        public int code() {
            return FieldId.code(id);
        }

        /// The class.
        public int classCode() {
            return FieldId.classCode(id);
        }

        /// The distance between the codes of two elements.
        public int stride() {
            return FieldId.stride(id);
        }

        /// Bytes of an element: 1, 2, 4 or 8.
        public int elementBytes() {
            return 1 << FieldId.sizeCode(id);
        }

        /// All bits of an element.
        public long elementMask() {
            return FieldId.elementMask(FieldId.sizeCode(id));
        }

        /// Whether a flag is set.
        public boolean has(char flag) {
            return flags.indexOf(flag) >= 0;
        }

        /// Whether an element with that class and code is in this row.
        public boolean covers(int classCode, int code) {
            return classCode == classCode() && code >= code() && code < code() + elements * stride() * count;
        }
    }

    private FieldTable(String rows) {
        fields = rows.lines().map(FieldTable::parse).toList();
    }

    private static Field parse(String line) {
        var c = line.strip().split(" +");
        long id = Long.parseUnsignedLong(c[1], 16);
        long all = FieldId.elementMask(FieldId.sizeCode(id));
        return new Field(c[0], id, Integer.parseInt(c[2]), Integer.parseInt(c[3]), Integer.parseInt(c[4], 16), mask(c[5], all),
                mask(c[6], all), mask(c[7], all), mask(c[8], all), mask(c[9], all), mask(c[10], all), c[11]);
    }

    private static long mask(String column, long all) {
        return switch (column) {
            case "-" -> 0;
            case "*" -> all;
            default -> Long.parseUnsignedLong(column, 16);
        };
    }

    /// The rows in order.
    public List<Field> fields() {
        return fields;
    }

    /// The identifier of the first element of the field that the specification calls `name`.
    ///
    /// @throws IllegalArgumentException when there is none
    public long id(String name) {
        for (var field : fields) {
            if (field.name().equals(name)) {
                return field.id();
            }
        }
        throw new IllegalArgumentException("no field is called " + name);
    }

    /// The position of the row that covers an element among the first `limit` rows, or -1.
    public int find(int classCode, int code, int limit) {
        for (int i = 0; i < limit; i++) {
            if (fields.get(i).covers(classCode, code)) {
                return i;
            }
        }
        return -1;
    }
}
