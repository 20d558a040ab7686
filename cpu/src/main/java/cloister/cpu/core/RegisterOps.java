package cloister.cpu.core;

import cloister.isa.Op;

/// Instructions on registers that are not frequent enough for a place in the interpreter's big method: micro-op
/// [MicroOp#REGISTER], `c` says which. Codes come in pairs: even 64 bits, odd 32 bits.
///
/// A memory source was loaded into a scratch slot before.
final class RegisterOps {
    /// a.
    static final int INC = 0;
    static final int DEC = 2;
    static final int NEG = 4;
    static final int NOT = 6;
    static final int BSWAP = 8;
    /// RDX becomes the sign of RAX.
    static final int SIGN = 10;
    /// a, source b + immediate.
    static final int ADC = 12;
    static final int SBB = 14;
    /// a = b * immediate.
    static final int IMUL_IMMEDIATE = 16;
    /// a = a * b.
    static final int IMUL = 18;
    /// a, b.
    static final int XCHG = 20;
    /// a, b, condition code in the immediate.
    static final int CMOV = 22;
    static final int SETCC = 24;
    /// a by the immediate.
    static final int ROL = 26;
    static final int ROR = 28;
    /// a by CL.
    static final int SHL_CL = 30;
    static final int SHR_CL = 32;
    static final int SAR_CL = 34;
    static final int ROL_CL = 36;
    static final int ROR_CL = 38;
    /// a from b, count in the slot that the immediate names.
    static final int SHLX = 40;
    static final int SHRX = 42;
    static final int SARX = 44;
    /// a from b by the immediate.
    static final int RORX = 46;
    /// a from b, bit position in the slot that the immediate names.
    static final int BZHI = 48;
    /// a = ~b & slot of the immediate.
    static final int ANDN = 50;
    static final int BLSR = 52;
    static final int TZCNT = 54;
    static final int LZCNT = 56;
    static final int POPCNT = 58;
    static final int BSF = 60;
    static final int BSR = 62;
    /// a, bit number b + immediate.
    static final int BT = 64;
    static final int BTS = 66;
    static final int BTR = 68;
    static final int BTC = 70;
    /// RDX:RAX = RAX * b.
    static final int MUL = 72;
    /// a, b, count in the immediate.
    static final int SHLD = 74;
    static final int SHRD = 76;
    /// a, source b + immediate, one byte; odd: two bytes.
    static final int ADD_SMALL = 80;
    static final int OR_SMALL = 82;
    static final int AND_SMALL = 84;
    static final int SUB_SMALL = 86;
    static final int XOR_SMALL = 88;

    private static final long LOW = 0xffff_ffffL;

    private RegisterOps() {
    }

    static void execute(long[] r, long u) {
        int a = ((int) u >>> 8) & 0xff;
        int b = ((int) u >>> 16) & 0xff;
        int operation = (int) u >>> 24;
        int immediate = (int) (u >>> 32);
        switch (operation) {
            case INC, INC + 1, DEC, DEC + 1, NEG, NEG + 1, NOT, NOT + 1, BSWAP, BSWAP + 1, SIGN, SIGN + 1 ->
                unary(r, a, operation);
            case ADC, ADC + 1, SBB, SBB + 1 -> withCarry(r, a, r[b] + immediate, operation);
            case IMUL_IMMEDIATE -> imul64(r, a, r[b], immediate);
            case IMUL_IMMEDIATE + 1 -> imul32(r, a, (int) r[b], immediate);
            case IMUL -> imul64(r, a, r[a], r[b]);
            case IMUL + 1 -> imul32(r, a, (int) r[a], (int) r[b]);
            case XCHG -> {
                long x = r[a];
                r[a] = r[b];
                r[b] = x;
            }
            case XCHG + 1 -> {
                long x = r[a] & LOW;
                r[a] = r[b] & LOW;
                r[b] = x;
            }
            case CMOV -> r[a] = r[Flags.condition(r, immediate) ? b : a];
            case CMOV + 1 -> r[a] = r[Flags.condition(r, immediate) ? b : a] & LOW;
            case SETCC, SETCC + 1 -> r[a] = (r[a] & ~0xffL) | (Flags.condition(r, immediate) ? 1 : 0);
            case SHLX -> r[a] = r[b] << r[immediate];
            case SHLX + 1 -> r[a] = ((int) r[b] << (int) r[immediate]) & LOW;
            case SHRX -> r[a] = r[b] >>> r[immediate];
            case SHRX + 1 -> r[a] = ((int) r[b] >>> (int) r[immediate]) & LOW;
            case SARX -> r[a] = r[b] >> r[immediate];
            case SARX + 1 -> r[a] = ((int) r[b] >> (int) r[immediate]) & LOW;
            case RORX -> r[a] = Long.rotateRight(r[b], immediate);
            case RORX + 1 -> r[a] = Integer.rotateRight((int) r[b], immediate) & LOW;
            case BZHI -> bzhi(r, a, r[b], (int) r[immediate] & 0xff, 8);
            case BZHI + 1 -> bzhi(r, a, r[b] & LOW, (int) r[immediate] & 0xff, 4);
            case ANDN, ANDN + 1 -> logical(r, a, ~r[b] & r[immediate], operation, false);
            case BLSR -> logical(r, a, r[b] & (r[b] - 1), operation, r[b] == 0);
            case BLSR + 1 -> logical(r, a, r[b] & (r[b] - 1), operation, (int) r[b] == 0);
            case ADD_SMALL, ADD_SMALL + 1, OR_SMALL, OR_SMALL + 1, AND_SMALL, AND_SMALL + 1, SUB_SMALL, SUB_SMALL + 1,
                 XOR_SMALL, XOR_SMALL + 1 -> small(r, a, r[b] + immediate, operation);
            case MUL, MUL + 1 -> mul(r, r[b], operation);
            default -> bits(r, a, b, operation, immediate);
        }
    }

    private static int size(int operation) {
        return (operation & 1) == 0 ? 8 : 4;
    }

    private static void unary(long[] r, int a, int operation) {
        long x = r[a];
        switch (operation) {
            case INC -> IntegerInstructions.incFlags(r, r[a] = x + 1, 8);
            case INC + 1 -> IntegerInstructions.incFlags(r, r[a] = (x + 1) & LOW, 4);
            case DEC -> IntegerInstructions.decFlags(r, r[a] = x - 1, 8);
            case DEC + 1 -> IntegerInstructions.decFlags(r, r[a] = (x - 1) & LOW, 4);
            case NEG -> r[a] = Flags.subtract(r, 0, x, 0, 8);
            case NEG + 1 -> r[a] = Flags.subtract(r, 0, x, 0, 4) & LOW;
            case NOT -> r[a] = ~x;
            case NOT + 1 -> r[a] = ~x & LOW;
            case BSWAP -> r[a] = Long.reverseBytes(x);
            case BSWAP + 1 -> r[a] = Long.reverseBytes(x) >>> 32;
            case SIGN -> r[Cpu.RDX] = r[Cpu.RAX] >> 63;
            default -> r[Cpu.RDX] = ((int) r[Cpu.RAX] >> 31) & LOW;
        }
    }

    private static void withCarry(long[] r, int a, long b, int operation) {
        int carry = Flags.carry(r) ? 1 : 0;
        int size = size(operation);
        long result = operation >= SBB ? Flags.subtract(r, r[a], b, carry, size) : Flags.add(r, r[a], b, carry, size);
        r[a] = size == 8 ? result : result & LOW;
    }

    private static void imul64(long[] r, int a, long x, long y) {
        long low = x * y;
        r[a] = low;
        Flags.result(r, low, 8, Math.multiplyHigh(x, y) != low >> 63 ? Flags.CF | Flags.OF : 0);
    }

    private static void imul32(long[] r, int a, int x, int y) {
        long product = (long) x * y;
        r[a] = product & LOW;
        Flags.result(r, product, 4, product != (int) product ? Flags.CF | Flags.OF : 0);
    }

    private static void mul(long[] r, long b, int operation) {
        long high;
        long low;
        if (operation == MUL) {
            low = r[Cpu.RAX] * b;
            high = Math.unsignedMultiplyHigh(r[Cpu.RAX], b);
        } else {
            long product = (r[Cpu.RAX] & LOW) * (b & LOW);
            low = product & LOW;
            high = product >>> 32;
        }
        r[Cpu.RAX] = low;
        r[Cpu.RDX] = high;
        Flags.result(r, low, size(operation), high != 0 ? Flags.CF | Flags.OF : 0);
    }

    private static void logical(long[] r, int a, long result, int operation, boolean carry) {
        int size = size(operation);
        r[a] = size == 8 ? result : result & LOW;
        Flags.result(r, result, size, carry ? Flags.CF : 0);
    }

    private static void bzhi(long[] r, int a, long x, int position, int size) {
        boolean carry = position >= 8 * size;
        long result = carry ? x : x & ((1L << position) - 1);
        r[a] = result;
        Flags.result(r, result, size, carry ? Flags.CF : 0);
    }

    /// ADD, OR, AND, SUB, XOR on registers of one or two bytes.
    private static void small(long[] r, int a, long b, int operation) {
        int size = (operation & 1) + 1;
        long x = r[a];
        long y = switch (operation & ~1) {
            case ADD_SMALL -> Flags.add(r, x, b, 0, size);
            case SUB_SMALL -> Flags.subtract(r, x, b, 0, size);
            default -> {
                long logical = (operation & ~1) == OR_SMALL ? x | b : (operation & ~1) == AND_SMALL ? x & b : x ^ b;
                Flags.result(r, logical, size, 0);
                yield logical;
            }
        };
        long mask = size == 2 ? 0xffff : 0xff;
        r[a] = (x & ~mask) | (y & mask);
    }

    private static void bits(long[] r, int a, int b, int operation, int immediate) {
        int size = size(operation);
        long mask = size == 8 ? -1L : LOW;
        switch (operation & ~1) {
            case ROL -> r[a] = ShiftInstructions.rol(r, r[a] & mask, immediate, size);
            case ROR -> r[a] = ShiftInstructions.ror(r, r[a] & mask, immediate, size);
            case SHL_CL -> byCl(r, a, Op.SHL, size, mask);
            case SHR_CL -> byCl(r, a, Op.SHR, size, mask);
            case SAR_CL -> byCl(r, a, Op.SAR, size, mask);
            case ROL_CL -> byCl(r, a, Op.ROL, size, mask);
            case ROR_CL -> byCl(r, a, Op.ROR, size, mask);
            case TZCNT -> {
                long n = Math.min(8 * size, Long.numberOfTrailingZeros(r[b]));
                Flags.set(r, (n == 0 ? Flags.ZF : 0) | ((r[b] & mask) == 0 ? Flags.CF : 0));
                r[a] = n;
            }
            case LZCNT -> {
                long x = r[b] & mask;
                long n = Long.numberOfLeadingZeros(x) - (64 - 8 * size);
                Flags.set(r, (n == 0 ? Flags.ZF : 0) | (x == 0 ? Flags.CF : 0));
                r[a] = n;
            }
            case POPCNT -> {
                r[a] = Long.bitCount(r[b] & mask);
                Flags.set(r, r[a] == 0 ? Flags.ZF : 0);
            }
            case BSF, BSR -> scan(r, a, r[b] & mask, operation);
            case SHLD -> r[a] = ShiftInstructions.shld(r, r[a] & mask, r[b] & mask, immediate, size);
            case SHRD -> r[a] = ShiftInstructions.shrd(r, r[a] & mask, r[b] & mask, immediate, size);
            default -> bitTest(r, a, r[b] + immediate, operation, mask);
        }
    }

    private static void byCl(long[] r, int a, Op op, int size, long mask) {
        int count = (int) r[Cpu.RCX] & (8 * size - 1);
        long x = r[a] & mask;
        r[a] = count == 0 ? x : ShiftInstructions.compute(r, op, x, count, size);
    }

    private static void scan(long[] r, int a, long x, int operation) {
        if (x == 0) {
            Flags.set(r, Flags.ZF | Flags.PF);
            return;
        }
        r[a] = (operation & ~1) == BSF ? Long.numberOfTrailingZeros(x) : 63 - Long.numberOfLeadingZeros(x);
        Flags.set(r, 0);
    }

    private static void bitTest(long[] r, int a, long number, int operation, long mask) {
        long bit = 1L << (number & (mask == -1L ? 63 : 31));
        long x = r[a];
        BitInstructions.setCarry(r, (x & bit) != 0);
        switch (operation & ~1) {
            case BTS -> r[a] = (x | bit) & mask;
            case BTR -> r[a] = x & ~bit & mask;
            case BTC -> r[a] = (x ^ bit) & mask;
            default -> {
            }
        }
    }
}
