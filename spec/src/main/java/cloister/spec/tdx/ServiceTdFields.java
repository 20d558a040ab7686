package cloister.spec.tdx;

import cloister.spec.tdx.FieldTable.Field;
import java.util.HashMap;
import java.util.Map;

/// The fields of a TD that its migration TD may access. [TDX-ABI "TDR and TDCS Metadata Fields", column "MigTD"]
///
/// Columns: name in [FieldTable#TD], read mask, write mask ("*" all bits of an element, "-" none).
public final class ServiceTdFields {
    private static final String ROWS = """
            TD_UUID                  *                -
            NUM_L2_VMS               *                -
            ATTRIBUTES               *                -
            XFAM                     *                -
            GPAW                     *                -
            EPTP                     fff0000000000fff -
            CONFIG_FLAGS             *                -
            TOPOLOGY_ENUM_CONFIGURED *                -
            CPUID_VALUES             *                -
            EXPORT_COUNT             *                -
            IMPORT_COUNT             *                -
            MIG_DEC_KEY              *                *
            MIG_DEC_WORKING_KEY      *                -
            MIG_ENC_KEY              *                -
            MIG_ENC_WORKING_KEY      *                -
            MIG_VERSION              *                *
            MIG_WORKING_VERSION      *                -
            PRE_IMPORT_UUID          *                -
            SERVTD_HASH              *                -
            SERVTD_NUM               *                -
            X2APIC_IDS               *                -
            """;
    private static final Map<String, Masks> BY_NAME = new HashMap<>();

    static {
        ROWS.lines().map(line -> line.split(" +")).forEach(c -> BY_NAME.put(c[0], new Masks(mask(c[1]), mask(c[2]))));
    }

    private record Masks(long read, long write) {
    }

    private ServiceTdFields() {
    }

    private static long mask(String column) {
        return switch (column) {
            case "*" -> -1L;
            case "-" -> 0;
            default -> Long.parseUnsignedLong(column, 16);
        };
    }

    /// The bits of an element that the service TD reads.
    public static long readMask(Field field) {
        var masks = BY_NAME.get(field.name());
        return masks == null ? 0 : masks.read & field.elementMask();
    }

    /// The bits of an element that the service TD writes.
    public static long writeMask(Field field) {
        var masks = BY_NAME.get(field.name());
        return masks == null ? 0 : masks.write & field.elementMask();
    }
}
