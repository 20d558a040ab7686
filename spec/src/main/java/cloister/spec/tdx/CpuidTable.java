package cloister.spec.tdx;

import java.util.ArrayList;
import java.util.List;

/// CPUID virtualisation and platform checks, one row per leaf and sub-leaf. [TDX-ABI "CPUID Virtualization"]
public final class CpuidTable {
    /// The sub-leaf of a leaf that has none.
    public static final int ANY = -1;
    /// The number of rows that TD_PARAMS configures.
    public static final int CONFIGURABLE = 18;
    /// [Row#config] of a row that cannot be configured.
    public static final int NOT_CONFIGURABLE = -1;

    /// One row; register arrays hold EAX, EBX, ECX, EDX.
    ///
    /// @param subleaf       the sub-leaf, or [#ANY]
    /// @param valid         whether the row is in use
    /// @param faulting      whether the leaf raises #VE in a TD
    /// @param config        position in TD_PARAMS.CPUID_CONFIG, or [#NOT_CONFIGURABLE]
    /// @param fixed1        bits that a TD always sees as 1
    /// @param fixed0        bits that are 0 or computed when the TD executes CPUID
    /// @param configDirect  bits taken from TD_PARAMS
    /// @param allowDirect   native bits that TD_PARAMS may keep
    /// @param verifyMask    bits checked on the platform
    /// @param verifyValue   what they must be
    /// @param verifySame    bits that must be the same on all processors
    public record Row(int leaf, int subleaf, boolean valid, boolean faulting, int config, int[] fixed1, int[] fixed0,
            int[] configDirect, int[] allowDirect, int[] verifyMask, int[] verifyValue, int[] verifySame) {
        /// Leaf and sub-leaf in one word, as interface functions report them.
        public long leafSubleaf() {
            return (leaf & 0xffff_ffffL) | ((long) subleaf << 32);
        }
    }

    /// Registers that a TD loses when an XFAM bit is 0.
    ///
    /// @param bit the XFAM bit
    /// @param clear EAX, EBX, ECX, EDX bits that it enables
    public record XfamMask(int bit, int[] clear) {
    }

    private static final List<XfamMask> XFAM_1 = masks("2 0,0,30001000,0");
    private static final List<XfamMask> XFAM_7_0 = masks("""
            2  0,20,600,0
            5  0,dc230000,5842,80010c
            6  0,dc230000,5842,80010c
            7  0,dc230000,5842,80010c
            8  0,2000000,0,0
            9  0,0,8,0
            11 0,0,80,100000
            12 0,0,80,100000
            14 0,0,0,20
            15 0,0,0,80000
            17 0,0,0,3400000
            18 0,0,0,3400000
            """);
    private static final List<XfamMask> XFAM_7_1 = masks("""
            2 800010,0,0,430
            5 20,0,0,0
            6 20,0,0,0
            7 20,0,0,0
            """);
    private static final List<XfamMask> XFAM_D_0 = masks("""
            2  4,0,0,0
            5  e0,0,0,0
            6  e0,0,0,0
            7  e0,0,0,0
            9  200,0,0,0
            17 60000,0,0,0
            18 60000,0,0,0
            """);
    private static final List<XfamMask> XFAM_D_1 = masks("""
            8  0,0,100,0
            11 0,0,1800,0
            12 0,0,1800,0
            14 0,0,4000,0
            15 0,0,8000,0
            """);

    private static final List<Row> ROWS = CpuidRows.ROWS.lines().map(CpuidTable::parse).toList();
    private static final Row[] BY_CONFIG = new Row[CONFIGURABLE];

    static {
        for (var row : ROWS) {
            if (row.config != NOT_CONFIGURABLE) {
                BY_CONFIG[row.config] = row;
            }
        }
    }

    private CpuidTable() {
    }

    private static Row parse(String line) {
        var c = line.strip().split(" +");
        if (c[0].equals("-")) {
            return new Row(0, 0, false, false, NOT_CONFIGURABLE, new int[4], new int[4], new int[4], new int[4], new int[4],
                    new int[4], new int[4]);
        }
        return new Row(Integer.parseUnsignedInt(c[0], 16), c[1].equals("any") ? ANY : Integer.parseInt(c[1], 16),
                !c[2].equals("x"), c[2].equals("f"), c[3].equals("-") ? NOT_CONFIGURABLE : Integer.parseInt(c[3]),
                registers(c[4]), registers(c[5]), registers(c[6]), registers(c[7]), registers(c[8]), registers(c[9]),
                registers(c[10]));
    }

    private static int[] registers(String column) {
        var result = new int[4];
        if (!column.equals("-")) {
            var parts = column.split(",");
            for (int i = 0; i < 4; i++) {
                result[i] = Integer.parseUnsignedInt(parts[i], 16);
            }
        }
        return result;
    }

    private static List<XfamMask> masks(String table) {
        var result = new ArrayList<XfamMask>();
        table.lines().forEach(line -> {
            var c = line.strip().split(" +");
            result.add(new XfamMask(Integer.parseInt(c[0]), registers(c[1])));
        });
        return List.copyOf(result);
    }

    /// All rows; the position is the index that TDCS.CPUID_VALUES uses.
    public static List<Row> rows() {
        return ROWS;
    }

    /// The row of configurable entry `config`, 0..17.
    public static Row configurable(int config) {
        return BY_CONFIG[config];
    }

    /// The index of the row for a leaf and sub-leaf, or -1.
    public static int find(int leaf, int subleaf) {
        for (int i = 0; i < ROWS.size(); i++) {
            var row = ROWS.get(i);
            if (row.leaf == leaf && (row.subleaf == ANY || row.subleaf == subleaf)) {
                return i;
            }
        }
        return -1;
    }

    /// The bits of a row that depend on XFAM.
    public static List<XfamMask> xfamMasks(int leaf, int subleaf) {
        return switch (leaf) {
            case 1 -> XFAM_1;
            case 7 -> subleaf == 0 ? XFAM_7_0 : subleaf == 1 ? XFAM_7_1 : List.of();
            case 0xd -> subleaf == 0 ? XFAM_D_0 : subleaf == 1 ? XFAM_D_1 : List.of();
            default -> List.of();
        };
    }
}
