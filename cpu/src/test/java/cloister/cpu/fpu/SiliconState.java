package cloister.cpu.fpu;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.ArrayList;
import java.util.List;
import java.util.Random;

/// A processor state for one run of one instruction, made from a seed so that the recorded vectors need only hold what
/// silicon changed. As quadwords: 0..63 the FXSAVE64 image, 64..67 RAX RCX RDX RDI, 68 RFLAGS, 69 the signal that the instruction
/// raised, 70..85 the 128 bytes at [#MEMORY], to which RBX points.
///
/// Categories: `I` integers, `F` and `D` binary32 and binary64, `FI` integers under various MXCSR, `S` and `SM` a shift count
/// in the source, `T` text, `M` MMX, `K` as I, `X...` x87: with `L` (a register is free), `N` (everything masked), `P` (no
/// special values), `m` and the kind of the memory operand.
final class SiliconState {
    static final int WORDS = 86;
    static final int GPR = 64;
    static final int FLAGS = 68;
    static final int SIGNAL = 69;
    static final int MEMORY_WORD = 70;
    static final long MEMORY = 0x1000_0000L;
    static final int ARITHMETIC = 0x8d5;

    private static final int[] SINGLES = {0, 0x80000000, 1, 0x80000001, 0x7fffff, 0x800000, 0x800001, 0x80800000, 0x3f800000,
            0xbf800000, 0x3f800001, 0x40000000, 0x40490fdb, 0x7f7fffff, 0xff7fffff, 0x7f800000, 0xff800000, 0x7fc00000,
            0xffc00000, 0x7fc12345, 0x7f812345, 0xff800001, 0x4f000000, 0xcf000000, 0x4effffff, 0x5f000000, 0xdf000000,
            0x3f000000, 0x3effffff, 0x3fc00000, 0x40200000, 0x4b000001, 0x33800000, 0x1f800000, 0x20000000, 0x5e800000};
    private static final long[] DOUBLES = {0, 1L << 63, 1, (1L << 63) | 1, 0xfffffffffffffL, 0x10000000000000L, 0x10000000000001L,
            0x3ff0000000000000L, 0xbff0000000000000L, 0x3ff0000000000001L, 0x4000000000000000L, 0x400921fb54442d18L,
            0x7fefffffffffffffL, 0xffefffffffffffffL, 0x7ff0000000000000L, 0xfff0000000000000L, 0x7ff8000000000000L,
            0xfff8000000000000L, 0x7ff8000012345000L, 0x7ff0000000012345L, 0xfff0000000000001L, 0x41dfffffffc00000L,
            0x41e0000000000000L, 0xc1e0000000000000L, 0x41dfffffffe00000L, 0x43e0000000000000L, 0xc3e0000000000000L,
            0x3fe0000000000000L, 0x3fdfffffffffffffL, 0x3ff8000000000000L, 0x4004000000000000L, 0x47efffffe0000000L,
            0x47efffffefffffffL, 0x47effffff0000000L, 0x3810000000000000L, 0x380fffffffffffffL, 0x36a0000000000000L,
            0x3690000000000000L, 0x1ff0000000000000L, 0x2000000000000000L, 0x5fe0000000000000L, 0x3cb0000000000000L};
    private static final long[] INTEGERS = {0, -1, 1, 0x8080808080808080L, 0x7f7f7f7f7f7f7f7fL, 0x8000800080008000L,
            0x7fff7fff7fff7fffL, 0x8000000080000000L, 0x7fffffff7fffffffL, Long.MIN_VALUE, Long.MAX_VALUE,
            0x0001000200030004L, 0x0102030405060708L, 0xff00ff00ff00ff00L, 0x80007fff01fffeffL};
    private static final long[] LENGTHS = {0, -1, 1, 5, 16, 8, -5, 0x80000000L, -16, 17, 3};
    private static final long[] SIGNIFICANDS = {1L << 63, -1L, 3L << 62, 0xc90fdaa22168c235L, (1L << 63) | 1, -1L << 11, -1L << 10,
            (1L << 63) | (1L << 10), -1L << 39};
    private static final int[] EXPONENTS = {0x3fff, 0x3fff, 0x4000, 0x3ffe, 0x3ffd, 0x3fc0, 0x403e, 0x403d, 0x401e, 0x400e, 0x7ffe,
            1, 0x3f80, 0x407f, 0x3c00, 0x43ff, 0x4001, 0x4002, 0x403f, 0x5fff, 0x2000};
    private static final long[] SPECIAL_SIGNIFICANDS = {0, 0, 1, Long.MAX_VALUE, 1L << 63, 1L << 63, 3L << 62,
            0xc000000012345678L, 0x8000000012345678L, 1L << 62, 5L << 61, 5};
    private static final int[] SPECIAL_EXPONENTS = {0, 0x8000, 0, 0, 0, 0x7fff, 0x7fff, 0x7fff, 0x7fff, 0x3fff, 0x7fff, 0x7fff};
    private static final int[] MXCSRS = {0x1f80, 0x1fa0, 0x1f80, 0x1f80, 0x3f80, 0x5f80, 0x7f80, 0x1fc0, 0x9f80, 0x9fc0, 0xdfc0,
            0x3fa0};
    private static final int[] CONTROL_WORDS = {0x37f, 0x37f, 0x27f, 0x7f, 0x77f, 0xb7f, 0xf7f, 0x67f, 0xa7f, 0xc7f, 0x47f};

    private final Random random;
    private final String category;
    private final ByteBuffer state = ByteBuffer.allocate(8 * WORDS).order(ByteOrder.LITTLE_ENDIAN);

    private SiliconState(String category, long seed) {
        this.category = category;
        this.random = new Random(seed);
    }

    static long[] of(String category, long seed) {
        var s = new SiliconState(category, seed);
        s.fill();
        long[] words = new long[WORDS];
        s.state.asLongBuffer().get(words);
        return words;
    }

    /// What changed from `before` to `after`, as `word:value` pairs.
    static String delta(long[] before, long[] after) {
        List<String> changes = new ArrayList<>();
        for (int n = 0; n < WORDS; n++) {
            if ((before[n] & mask(n)) != (after[n] & mask(n))) {
                changes.add(n + ":" + Long.toHexString(after[n] & mask(n)));
            }
        }
        return String.join(" ", changes);
    }

    /// The bits that are compared: no x87 pointers, no reserved fields.
    private static long mask(int word) {
        return switch (word) {
            case 0 -> 0xff_ffff_ffffL;
            case 1, 2 -> 0;
            case 3 -> 0xffff_ffffL;
            case FLAGS -> ARITHMETIC;
            default -> word >= LegacyImage.XMM_END && word < GPR ? 0
                    : word >= 4 && word < 20 && (word & 1) != 0 ? 0xffff : -1;
        };
    }

    private void fill() {
        boolean x87 = category.startsWith("X");
        boolean floating = category.startsWith("F") || category.equals("D");
        char kind = category.equals("FI") ? 'I' : "FDT".indexOf(category.charAt(0)) >= 0 ? category.charAt(0) : 'I';
        int mxcsr = floating ? pick(MXCSRS) : 0x1f80;
        if (floating && random.nextInt(4) == 0) {
            mxcsr &= ~(random.nextInt(64) << 7);
        }
        state.putInt(24, mxcsr);
        state.putInt(28, 0xffff);
        state.putShort(0, (short) 0x37f);
        for (int n = 0; n < 32; n++) {
            state.putLong(160 + 8 * n, value(kind));
        }
        if (category.equals("T") && random.nextInt(4) == 0) {
            state.putLong(192, state.getLong(176));
        }
        if (category.equals("S")) {
            state.putLong(192, random.nextInt(5) == 0 ? random.nextLong() : random.nextInt(70));
        }
        if (x87) {
            fillX87();
        } else {
            fillMmx(kind);
        }
        int gpr = 8 * GPR;
        for (int n = 0; n < 3; n++) {
            state.putLong(gpr + 8 * n, category.equals("T") ? LENGTHS[random.nextInt(LENGTHS.length)]
                    : floating && random.nextBoolean() ? random.nextInt(1000) : value('I'));
        }
        state.putLong(gpr + 24, MEMORY + random.nextInt(20));
        state.putLong(8 * FLAGS, 0x202 | (random.nextInt(2) * ARITHMETIC));
        for (int n = 0; n < 16; n++) {
            state.putLong(8 * MEMORY_WORD + 8 * n, value(kind));
        }
        fillOperand();
    }

    private void fillMmx(char kind) {
        state.put(4, (byte) 0xff);
        for (int n = 0; n < 8; n++) {
            long value = category.equals("SM") && n == 2 ? random.nextInt(70) : value(kind);
            state.putLong(32 + 16 * n, value);
            state.putShort(40 + 16 * n, (short) 0xffff);
        }
    }

    private void fillX87() {
        boolean masked = category.contains("N");
        int control = masked ? 0x37f : pick(CONTROL_WORDS);
        if (!masked && random.nextInt(5) == 0) {
            control &= ~random.nextInt(64);
        }
        int top = random.nextInt(8);
        int codes = random.nextInt(16);
        int status = (top << 11) | ((codes & 7) << 8) | (codes >> 3 << 14) | (random.nextInt(3) == 0 ? 0x20 & control : 0);
        int tags = random.nextInt(3) == 0 ? random.nextInt(256) : 255;
        int free = 0xff & ~(1 << ((top + 7) & 7));
        if (category.contains("L")) {
            tags = category.contains("P") ? free : random.nextInt(4) == 0 ? random.nextInt(256) : random.nextInt(256) & free;
        } else if (category.contains("P")) {
            tags = 255;
        }
        state.putShort(0, (short) control);
        state.putShort(2, (short) status);
        state.put(4, (byte) tags);
        for (int n = 0; n < 8; n++) {
            putRegister(32 + 16 * n);
        }
    }

    /// A memory operand at [#MEMORY] of the kind that the category names.
    private void fillOperand() {
        int at = 8 * MEMORY_WORD;
        int m = category.indexOf('m');
        switch (m < 0 ? ' ' : category.charAt(m + 1)) {
            case '4' -> state.putInt(at, single());
            case '8' -> state.putLong(at, value('D'));
            case 't' -> putRegister(at);
            case 'b' -> {
                for (int n = 0; n < 9; n++) {
                    state.put(at + n, (byte) (random.nextInt(10) | (random.nextInt(10) << 4)));
                }
                state.put(at + 9, (byte) (random.nextInt(2) << 7));
            }
            default -> { }
        }
    }

    private void putRegister(int at) {
        int choice = random.nextInt(category.contains("P") ? 8 : 12);
        long significand;
        int exponent;
        if (choice < 4) {
            significand = SIGNIFICANDS[random.nextInt(SIGNIFICANDS.length)];
            exponent = pick(EXPONENTS);
        } else if (choice < 7) {
            significand = random.nextLong() | (1L << 63);
            exponent = 0x3fff + random.nextInt(80) - 40;
        } else if (choice == 7) {
            int magnitude = random.nextInt(100) + 1;
            int shift = Long.numberOfLeadingZeros(magnitude);
            significand = (long) magnitude << shift;
            exponent = 0x3fff + 63 - shift;
        } else {
            int n = random.nextInt(SPECIAL_EXPONENTS.length);
            significand = SPECIAL_SIGNIFICANDS[n];
            exponent = SPECIAL_EXPONENTS[n];
        }
        if (random.nextInt(3) == 0) {
            exponent |= 0x8000;
        }
        state.putLong(at, significand);
        state.putShort(at + 8, (short) exponent);
    }

    private int pick(int[] values) {
        return values[random.nextInt(values.length)];
    }

    private long value(char kind) {
        int choice = random.nextInt(10);
        return switch (kind) {
            case 'F' -> (single() & 0xffff_ffffL) | ((long) single() << 32);
            case 'D' -> choice < 7 ? DOUBLES[random.nextInt(DOUBLES.length)] : choice == 7 ? random.nextLong()
                    : Double.doubleToRawLongBits((random.nextInt() | 1) * Math.scalb(1.0, random.nextInt(70) - 50));
            case 'T' -> text();
            default -> choice < 5 ? INTEGERS[random.nextInt(INTEGERS.length)] : random.nextLong();
        };
    }

    private int single() {
        int choice = random.nextInt(10);
        return choice < 7 ? pick(SINGLES) : choice == 7 ? random.nextInt()
                : Float.floatToRawIntBits((random.nextInt() | 1) * Math.scalb(1f, random.nextInt(70) - 50));
    }

    private long text() {
        long value = 0;
        int style = random.nextInt(3);
        for (int n = 0; n < 8; n++) {
            long letter = switch (style) {
                case 0 -> "abcABC\0zZ09".charAt(random.nextInt(11));
                case 1 -> random.nextInt(4) == 0 ? 0 : random.nextInt(3) + 'a';
                default -> random.nextInt(256);
            };
            value |= letter << (8 * n);
        }
        return random.nextInt(3) == 0 ? value & 0x00ff00ff00ff00ffL : value;
    }
}
