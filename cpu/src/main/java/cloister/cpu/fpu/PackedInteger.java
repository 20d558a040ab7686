package cloister.cpu.fpu;

/// The integer operations of MMX and SSE on one quadword of packed lanes; an XMM register is two of them. SWAR arithmetic: `H`
/// has the sign bit of every lane, `L` the lowest bit. [SDM Vol. 2 "Instruction Set Reference"]
final class PackedInteger {
    static final long HB = 0x8080_8080_8080_8080L;
    static final long HW = 0x8000_8000_8000_8000L;
    static final long HD = 0x8000_0000_8000_0000L;
    static final long LB = 0x0101_0101_0101_0101L;
    static final long LW = 0x0001_0001_0001_0001L;
    static final long LD = 0x0000_0001_0000_0001L;

    private PackedInteger() {
    }

    static long add(long a, long b, long h) {
        return ((a & ~h) + (b & ~h)) ^ ((a ^ b) & h);
    }

    static long sub(long a, long b, long h) {
        return ((a | h) - (b & ~h)) ^ ((a ^ ~b) & h);
    }

    /// Spreads the sign bits `signs` of lanes of `width` bits over their lanes.
    static long spread(long signs, int width) {
        long low = signs >>> (width - 1);
        return (low << width) - low;
    }

    /// All ones in the lanes where `a` >= `b`, unsigned.
    static long atLeast(long a, long b, long h, int width) {
        long low = (a | h) - (b & ~h);
        return spread(((a & ~b) | (~(a ^ b) & low)) & h, width);
    }

    static long equal(long a, long b, long h, int width) {
        long x = a ^ b;
        return spread(~(((x & ~h) + ~h) | x) & h, width);
    }

    /// All ones in the lanes where `a` > `b`, signed.
    static long greater(long a, long b, long h, int width) {
        return ~atLeast(b ^ h, a ^ h, h, width);
    }

    static long select(long mask, long yes, long no) {
        return (yes & mask) | (no & ~mask);
    }

    static long minUnsigned(long a, long b, long h, int width) {
        return select(atLeast(a, b, h, width), b, a);
    }

    static long maxUnsigned(long a, long b, long h, int width) {
        return select(atLeast(a, b, h, width), a, b);
    }

    static long minSigned(long a, long b, long h, int width) {
        return select(greater(a, b, h, width), b, a);
    }

    static long maxSigned(long a, long b, long h, int width) {
        return select(greater(a, b, h, width), a, b);
    }

    static long addUnsignedSaturated(long a, long b, long h, int width) {
        long sum = add(a, b, h);
        return sum | spread(((a & b) | ((a | b) & ~sum)) & h, width);
    }

    static long subUnsignedSaturated(long a, long b, long h, int width) {
        return sub(a, b, h) & atLeast(a, b, h, width);
    }

    static long addSigned(long a, long b, long h, int width) {
        long sum = add(a, b, h);
        return saturate(a, sum, ~(a ^ b) & (a ^ sum) & h, h, width);
    }

    static long subSigned(long a, long b, long h, int width) {
        long difference = sub(a, b, h);
        return saturate(a, difference, (a ^ b) & (a ^ difference) & h, h, width);
    }

    private static long saturate(long a, long result, long overflow, long h, int width) {
        long limit = ((a & h) >>> (width - 1)) + ~h;
        return select(spread(overflow, width), limit, result);
    }

    /// Rounded average of unsigned lanes.
    static long average(long a, long b, long l) {
        return (a | b) - (((a ^ b) & ~l) >>> 1);
    }

    static long abs(long a, long h, int width) {
        long negative = spread(a & h, width);
        return sub(a ^ negative, negative, h);
    }

    static long sign(long a, long b, long h, int width) {
        long negative = spread(b & h, width);
        return sub(a ^ negative, negative, h) & ~equal(b, 0, h, width);
    }

    static long mulLowW(long a, long b) {
        long r = 0;
        for (int n = 0; n < 64; n += 16) {
            r |= ((((a >>> n) & 0xffff) * ((b >>> n) & 0xffff)) & 0xffff) << n;
        }
        return r;
    }

    static long mulHighW(long a, long b) {
        long r = 0;
        for (int n = 0; n < 64; n += 16) {
            r |= ((((short) (a >> n) * (short) (b >> n)) >> 16) & 0xffffL) << n;
        }
        return r;
    }

    static long mulHighUnsignedW(long a, long b) {
        long r = 0;
        for (int n = 0; n < 64; n += 16) {
            r |= ((((a >>> n) & 0xffff) * ((b >>> n) & 0xffff)) >>> 16) << n;
        }
        return r;
    }

    /// PMULHRSW.
    static long mulHighRoundedW(long a, long b) {
        long r = 0;
        for (int n = 0; n < 64; n += 16) {
            int product = (short) (a >> n) * (short) (b >> n);
            r |= ((((product >> 14) + 1) >> 1) & 0xffffL) << n;
        }
        return r;
    }

    static long mulLowD(long a, long b) {
        return pair((int) a * (int) b, (int) (a >>> 32) * (int) (b >>> 32));
    }

    /// PMADDWD.
    static long multiplyAddW(long a, long b) {
        int low = (short) a * (short) b + (short) (a >> 16) * (short) (b >> 16);
        int high = (short) (a >> 32) * (short) (b >> 32) + (short) (a >> 48) * (short) (b >> 48);
        return pair(low, high);
    }

    /// PMADDUBSW: unsigned bytes of `a` by signed bytes of `b`.
    static long multiplyAddB(long a, long b) {
        long r = 0;
        for (int n = 0; n < 64; n += 16) {
            int sum = (int) ((a >>> n) & 0xff) * (byte) (b >> n) + (int) ((a >>> (n + 8)) & 0xff) * (byte) (b >> (n + 8));
            r |= (signedWord(sum) & 0xffffL) << n;
        }
        return r;
    }

    /// PSADBW: sum of absolute differences of eight bytes.
    static long sumAbsoluteDifferences(long a, long b) {
        int sum = 0;
        for (int n = 0; n < 64; n += 8) {
            sum += Math.abs((int) ((a >>> n) & 0xff) - (int) ((b >>> n) & 0xff));
        }
        return sum;
    }

    static long pair(int low, int high) {
        return (low & 0xffff_ffffL) | ((long) high << 32);
    }

    static int signedWord(int value) {
        return Math.clamp(value, Short.MIN_VALUE, Short.MAX_VALUE);
    }

    static int unsignedWord(int value) {
        return Math.clamp(value, 0, 0xffff);
    }

    static int signedByte(int value) {
        return Math.clamp(value, Byte.MIN_VALUE, Byte.MAX_VALUE);
    }

    static int unsignedByte(int value) {
        return Math.clamp(value, 0, 0xff);
    }

    // Shifts: a count of the lane's width or more gives zero, or the sign for arithmetic shifts.

    static long shiftLeftW(long a, long count) {
        return Long.compareUnsigned(count, 15) > 0 ? 0 : (a << count) & (((0xffffL << count) & 0xffff) * LW);
    }

    static long shiftLeftD(long a, long count) {
        return Long.compareUnsigned(count, 31) > 0 ? 0 : (a << count) & (((0xffff_ffffL << count) & 0xffff_ffffL) * LD);
    }

    static long shiftLeftQ(long a, long count) {
        return Long.compareUnsigned(count, 63) > 0 ? 0 : a << count;
    }

    static long shiftRightW(long a, long count) {
        return Long.compareUnsigned(count, 15) > 0 ? 0 : (a >>> count) & ((0xffffL >>> count) * LW);
    }

    static long shiftRightD(long a, long count) {
        return Long.compareUnsigned(count, 31) > 0 ? 0 : (a >>> count) & ((0xffff_ffffL >>> count) * LD);
    }

    static long shiftRightQ(long a, long count) {
        return Long.compareUnsigned(count, 63) > 0 ? 0 : a >>> count;
    }

    static long shiftArithmeticW(long a, long count) {
        int by = Long.compareUnsigned(count, 15) > 0 ? 15 : (int) count;
        long r = 0;
        for (int n = 0; n < 64; n += 16) {
            r |= (((short) (a >> n) >> by) & 0xffffL) << n;
        }
        return r;
    }

    static long shiftArithmeticD(long a, long count) {
        int by = Long.compareUnsigned(count, 31) > 0 ? 31 : (int) count;
        return pair((int) a >> by, (int) (a >> 32) >> by);
    }

    // Packs: two quadwords become one of narrower, saturated lanes.

    static long packSignedWB(long a, long b) {
        long r = 0;
        for (int n = 0; n < 4; n++) {
            r |= (signedByte((short) (a >> (16 * n))) & 0xffL) << (8 * n);
            r |= (signedByte((short) (b >> (16 * n))) & 0xffL) << (32 + 8 * n);
        }
        return r;
    }

    static long packUnsignedWB(long a, long b) {
        long r = 0;
        for (int n = 0; n < 4; n++) {
            r |= (long) unsignedByte((short) (a >> (16 * n))) << (8 * n);
            r |= (long) unsignedByte((short) (b >> (16 * n))) << (32 + 8 * n);
        }
        return r;
    }

    static long packSignedDW(long a, long b) {
        return (signedWord((int) a) & 0xffffL) | ((signedWord((int) (a >> 32)) & 0xffffL) << 16)
                | ((signedWord((int) b) & 0xffffL) << 32) | ((signedWord((int) (b >> 32)) & 0xffffL) << 48);
    }

    static long packUnsignedDW(long a, long b) {
        return unsignedWord((int) a) | ((long) unsignedWord((int) (a >> 32)) << 16)
                | ((long) unsignedWord((int) b) << 32) | ((long) unsignedWord((int) (b >> 32)) << 48);
    }

    // Interleaves the low or high halves of two quadwords.

    static long interleaveB(int a, int b) {
        return widenB(a) | (widenB(b) << 8);
    }

    static long interleaveW(int a, int b) {
        return widenW(a) | (widenW(b) << 16);
    }

    /// The four bytes of `a`, each in a word.
    static long widenB(int a) {
        long x = a & 0xffff_ffffL;
        x = (x | (x << 16)) & 0x0000_ffff_0000_ffffL;
        return (x | (x << 8)) & 0x00ff_00ff_00ff_00ffL;
    }

    /// The two words of `a`, each in a doubleword.
    static long widenW(int a) {
        return (a & 0xffffL) | ((a & 0xffff_0000L) << 16);
    }

    static long widenSignedB(int a) {
        long x = widenB(a);
        return x | (spread((x << 8) & HW, 16) & 0xff00_ff00_ff00_ff00L);
    }

    static long widenSignedW(int a) {
        return pair((short) a, a >> 16);
    }

    // Horizontal operations: the lanes of `a` give the low half of the result, those of `b` the high half.

    static long horizontalAddW(long a, long b) {
        return wordPairs(a, b, 1, false);
    }

    static long horizontalSubW(long a, long b) {
        return wordPairs(a, b, -1, false);
    }

    static long horizontalAddSaturated(long a, long b) {
        return wordPairs(a, b, 1, true);
    }

    static long horizontalSubSaturated(long a, long b) {
        return wordPairs(a, b, -1, true);
    }

    private static long wordPairs(long a, long b, int factor, boolean saturated) {
        long r = 0;
        for (int n = 0; n < 4; n++) {
            long source = n < 2 ? a : b;
            int shift = 32 * (n & 1);
            int sum = (short) (source >> shift) + factor * (short) (source >> (shift + 16));
            r |= ((saturated ? signedWord(sum) : sum) & 0xffffL) << (16 * n);
        }
        return r;
    }

    static long horizontalAddD(long a, long b) {
        return pair((int) a + (int) (a >> 32), (int) b + (int) (b >> 32));
    }

    static long horizontalSubD(long a, long b) {
        return pair((int) a - (int) (a >> 32), (int) b - (int) (b >> 32));
    }

    /// PSHUFB of MMX: eight bytes.
    static long shuffleB(long a, long control) {
        long r = 0;
        for (int n = 0; n < 64; n += 8) {
            int c = (int) (control >>> n);
            if ((c & 0x80) == 0) {
                r |= ((a >>> (8 * (c & 7))) & 0xff) << n;
            }
        }
        return r;
    }

    /// Four words of `a` selected by the four fields of `control`.
    static long shuffleW(long a, int control) {
        return ((a >>> (16 * (control & 3))) & 0xffff)
                | (((a >>> (16 * ((control >> 2) & 3))) & 0xffff) << 16)
                | (((a >>> (16 * ((control >> 4) & 3))) & 0xffff) << 32)
                | (a >>> (16 * ((control >> 6) & 3)) << 48);
    }

    /// The sign bits of eight bytes.
    static int signMaskB(long a) {
        return (int) ((((a >>> 7) & LB) * 0x0102_0408_1020_4080L) >>> 56);
    }
}
