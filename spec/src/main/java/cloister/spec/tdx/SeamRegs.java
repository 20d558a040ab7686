package cloister.spec.tdx;

import java.util.Arrays;

/// The sixteen general registers that SEAMCALL and TDCALL pass, mutable, indexed in instruction-encoding order
/// (RAX 0, RCX 1, RDX 2, RBX 3, RSP 4, RBP 5, RSI 6, RDI 7, R8..R15). Reused from call to call.
public final class SeamRegs {
    public static final int RAX = 0;
    public static final int RCX = 1;
    public static final int RDX = 2;
    public static final int RBX = 3;
    public static final int RSP = 4;
    public static final int RBP = 5;
    public static final int RSI = 6;
    public static final int RDI = 7;
    public static final int R8 = 8;
    public static final int R9 = 9;
    public static final int R10 = 10;
    public static final int R11 = 11;
    public static final int R12 = 12;
    public static final int R13 = 13;
    public static final int R14 = 14;
    public static final int R15 = 15;
    public static final int COUNT = 16;

    private final long[] values = new long[COUNT];

    /// The value of register `index`.
    public long get(int index) {
        return values[index];
    }

    /// Sets register `index`.
    public void set(int index, long value) {
        values[index] = value;
    }

    /// Zeroes all registers.
    public void clear() {
        Arrays.fill(values, 0);
    }

    /// The backing array, for bulk transfer.
    public long[] array() {
        return values;
    }
}
