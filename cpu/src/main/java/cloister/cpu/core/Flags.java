package cloister.cpu.core;

/// The arithmetic flags, kept as the last result and what made it, until somebody asks.
///
/// Three slots of the register file: [Slot#RESULT] holds the result shifted to the top of the word, so that conditions
/// need not know the operand size; [Slot#OPERAND] the first operand, shifted alike, or ready flag bits; [Slot#KIND] what
/// the operation was, and the shift in bits 8 and up. A zero RESULT means ZF for every kind.
public final class Flags {
    public static final int CF = 1;
    public static final int PF = 1 << 2;
    public static final int AF = 1 << 4;
    public static final int ZF = 1 << 6;
    public static final int SF = 1 << 7;
    public static final int TF = 1 << 8;
    public static final int IF = 1 << 9;
    public static final int DF = 1 << 10;
    public static final int OF = 1 << 11;
    public static final int IOPL = 3 << 12;
    public static final int NT = 1 << 14;
    public static final int RF = 1 << 16;
    public static final int VM = 1 << 17;
    public static final int AC = 1 << 18;
    public static final int VIF = 1 << 19;
    public static final int VIP = 1 << 20;
    public static final int ID = 1 << 21;
    /// The flags that are lazy.
    public static final int ARITHMETIC = CF | PF | AF | ZF | SF | OF;

    /// ZF, SF, PF from the result; CF, OF, AF stand in the operand slot.
    static final int RES = 0;
    static final int SUB = 1;
    static final int ADD = 2;
    /// Subtraction with a borrow of one.
    static final int SBB = 3;
    /// Addition with a carry of one.
    static final int ADC = 4;
    /// All six flags stand in the operand slot; the result is zero exactly when ZF is set.
    static final int EXPLICIT = 5;

    private Flags() {
    }

    static boolean carry(long[] r) {
        long a = r[Slot.OPERAND];
        long res = r[Slot.RESULT];
        return switch ((int) r[Slot.KIND] & 0xff) {
            case SUB -> Long.compareUnsigned(a, res) < 0;
            case ADD -> Long.compareUnsigned(res, a) < 0;
            case SBB -> Long.compareUnsigned(a, res) <= 0;
            case ADC -> Long.compareUnsigned(res, a) <= 0;
            default -> (a & CF) != 0;
        };
    }

    static boolean overflow(long[] r) {
        long a = r[Slot.OPERAND];
        long res = r[Slot.RESULT];
        int kind = (int) r[Slot.KIND] & 0xff;
        return switch (kind) {
            case SUB, SBB, ADD, ADC -> {
                long b = second(kind, a, res, (int) (r[Slot.KIND] >> 8));
                yield (kind == SUB || kind == SBB ? (a ^ b) & (a ^ res) : (a ^ res) & (b ^ res)) < 0;
            }
            default -> (a & OF) != 0;
        };
    }

    static boolean sign(long[] r) {
        return ((int) r[Slot.KIND] & 0xff) == EXPLICIT ? (r[Slot.OPERAND] & SF) != 0 : r[Slot.RESULT] < 0;
    }

    static boolean parity(long[] r) {
        long kind = r[Slot.KIND];
        if (((int) kind & 0xff) == EXPLICIT) {
            return (r[Slot.OPERAND] & PF) != 0;
        }
        return (Integer.bitCount((int) (r[Slot.RESULT] >>> (kind >> 8)) & 0xff) & 1) == 0;
    }

    static boolean adjust(long[] r) {
        long a = r[Slot.OPERAND];
        int kind = (int) r[Slot.KIND] & 0xff;
        if (kind == RES || kind == EXPLICIT) {
            return (a & AF) != 0;
        }
        int shift = (int) (r[Slot.KIND] >> 8);
        long res = r[Slot.RESULT];
        return (((a ^ second(kind, a, res, shift) ^ res) >>> shift) & 0x10) != 0;
    }

    /// The second operand, from the first and the result.
    private static long second(int kind, long a, long res, int shift) {
        return switch (kind) {
            case SUB -> a - res;
            case SBB -> a - res - (1L << shift);
            case ADC -> res - a - (1L << shift);
            default -> res - a;
        };
    }

    /// The six arithmetic flags as bits of RFLAGS.
    static int arithmetic(long[] r) {
        if (((int) r[Slot.KIND] & 0xff) == EXPLICIT) {
            return (int) r[Slot.OPERAND];
        }
        return (carry(r) ? CF : 0) | (parity(r) ? PF : 0) | (adjust(r) ? AF : 0)
                | (r[Slot.RESULT] == 0 ? ZF : 0) | (r[Slot.RESULT] < 0 ? SF : 0) | (overflow(r) ? OF : 0);
    }

    /// Sets the six flags to `bits`.
    static void set(long[] r, int bits) {
        r[Slot.OPERAND] = bits & ARITHMETIC;
        r[Slot.RESULT] = ~bits & ZF;
        r[Slot.KIND] = EXPLICIT;
    }

    /// Condition code `cc` of Jcc, SETcc, CMOVcc. [SDM Vol. 1 "EFLAGS Condition Codes"]
    static boolean condition(long[] r, int cc) {
        boolean positive = switch (cc >> 1) {
            case 0 -> overflow(r);
            case 1 -> carry(r);
            case 2 -> r[Slot.RESULT] == 0;
            case 3 -> r[Slot.RESULT] == 0 || carry(r);
            case 4 -> sign(r);
            case 5 -> parity(r);
            case 6 -> sign(r) != overflow(r);
            default -> r[Slot.RESULT] == 0 || sign(r) != overflow(r);
        };
        return positive ^ (cc & 1) != 0;
    }

    /// Flags of a logical operation, or of one that leaves ready CF, OF, AF bits: `result` of `size` bytes.
    static void result(long[] r, long result, int size, int carryOverflowAdjust) {
        int shift = 64 - 8 * size;
        r[Slot.RESULT] = result << shift;
        r[Slot.OPERAND] = carryOverflowAdjust;
        r[Slot.KIND] = RES | ((long) shift << 8);
    }

    /// Adds `b` and `carry` (0 or 1) to `a` and sets the flags. Returns the result, upper bits undefined.
    static long add(long[] r, long a, long b, int carry, int size) {
        int shift = 64 - 8 * size;
        long res = a + b + carry;
        r[Slot.RESULT] = res << shift;
        r[Slot.OPERAND] = a << shift;
        r[Slot.KIND] = (carry == 0 ? ADD : ADC) | ((long) shift << 8);
        return res;
    }

    /// Subtracts `b` and `borrow` (0 or 1) from `a` and sets the flags. Returns the result, upper bits undefined.
    static long subtract(long[] r, long a, long b, int borrow, int size) {
        int shift = 64 - 8 * size;
        long res = a - b - borrow;
        r[Slot.RESULT] = res << shift;
        r[Slot.OPERAND] = a << shift;
        r[Slot.KIND] = (borrow == 0 ? SUB : SBB) | ((long) shift << 8);
        return res;
    }
}
