package cloister.spec.tdx;

import java.util.List;
import java.util.Locale;

/// MSR virtualisation: which accesses of a TD are native, and what the module does with the others. An MSR in no
/// row raises #VE. [TDX-BASE "MSR Handling"]
public final class MsrTable {
    /// When the bit of an MSR in the MSR bitmaps is clear, so that the access is native.
    public enum Bit {
        PASS, EXIT, PERFMON, XFAM_CET, XFAM_PT, XFAM_ULI, XFAM_LBR, UMWAIT, XFD, PKS, TSX, OTHER
    }

    /// What the module does with an access that exits.
    public enum Action { NONE, VE, GP, GP_OR_VE, EMULATE }

    /// One row.
    ///
    /// @param first the lowest MSR number that the row covers
    /// @param last  the highest
    public record Row(String name, int first, int last, Bit readBit, Action readAction, Bit writeBit,
            Action writeAction) {
    }

    private static final List<Row> ROWS = MsrRows.ROWS.lines().map(MsrTable::parse).toList();

    private MsrTable() {
    }

    private static Row parse(String line) {
        var c = line.strip().split(" +");
        return new Row(c[0], Integer.parseUnsignedInt(c[1], 16), Integer.parseUnsignedInt(c[2], 16), bit(c[3]), action(c[4]),
                bit(c[5]), action(c[6]));
    }

    private static Bit bit(String column) {
        return Bit.valueOf(column.toUpperCase(Locale.ROOT));
    }

    private static Action action(String column) {
        return column.equals("-") ? Action.NONE : Action.valueOf(column.replace('-', '_').toUpperCase(Locale.ROOT));
    }

    /// All rows, ascending.
    public static List<Row> rows() {
        return ROWS;
    }

    /// The row that covers `msr`, or null.
    public static Row find(int msr) {
        for (var row : ROWS) {
            if (Integer.compareUnsigned(msr, row.first) >= 0 && Integer.compareUnsigned(msr, row.last) <= 0) {
                return row;
            }
        }
        return null;
    }
}
