package cloister.silicon;

import java.util.SplittableRandom;

/// Initial states out of seeds: mostly edge values, some random bits. Recorded vectors depend on every line here: a change
/// means recording anew.
final class InitialState {
    private static final int ARITHMETIC = 0x8D5;
    private static final long[] INTEGERS = {0, 1, 2, 3, 7, 8, 15, 16, 31, 32, 33, 63, 64, 0x7F, 0x80, 0xFF, 0x100, 0x7FFF, 0x8000, 0xFFFF,
        0x7FFF_FFFF, 0x8000_0000L, 0xFFFF_FFFFL, 0x1_0000_0000L, Long.MAX_VALUE, Long.MIN_VALUE, -1, -2, -128, -32768, Integer.MIN_VALUE,
        0x5555_5555_5555_5555L, 0xAAAA_AAAA_AAAA_AAAAL, 0x0123_4567_89AB_CDEFL};
    private static final double[] DOUBLES = {0.0, -0.0, 1.0, -1.0, 1.5, 2.0, 0.5, 3.0, -3.5, 10.0, 1e10, -1e-10, 255.0,
        65536.0, 2147483647.0,
        2147483648.0, -2147483648.0, 4294967296.0, 9.2233720368547748e18, -9.2233720368547758e18, 1e300, -1e300, 1e-300,
        Double.MIN_VALUE, -Double.MIN_VALUE, Double.MIN_NORMAL, Double.MAX_VALUE, Double.POSITIVE_INFINITY, Double.NEGATIVE_INFINITY,
        Double.NaN, 0.1, Math.PI};
    private static final long[] SPECIAL_NANS = {0x7FF0_0000_0000_0001L, 0xFFF8_0000_0000_0000L, 0x7FF4_1234_5678_9ABCL,
        0xFFF0_0000_8000_0000L};

    private InitialState() {
    }

    static MachineState of(long seed) {
        SplittableRandom random = new SplittableRandom(seed);
        MachineState state = new MachineState();
        for (int i = 0; i < 16; i++) {
            state.gpr[i] = integer(random);
        }
        state.gpr[4] = Layout.DATA + 0x180 + 8 * random.nextInt(16);
        state.rflags = 0x202 | (random.nextInt() & ARITHMETIC);
        for (int i = 0; i < Layout.DATA_BYTES; i += 8) {
            state.data.putLong(i, vectorWord(random));
        }
        floatingPoint(state, random);
        return state;
    }

    private static long integer(SplittableRandom random) {
        return switch (random.nextInt(4)) {
            case 0 -> random.nextLong();
            case 1 -> random.nextLong() >> random.nextInt(64);
            default -> INTEGERS[random.nextInt(INTEGERS.length)];
        };
    }

    /// Eight bytes that may be read as integers, two floats or a double.
    private static long vectorWord(SplittableRandom random) {
        return switch (random.nextInt(8)) {
            case 0 -> random.nextLong();
            case 1 -> INTEGERS[random.nextInt(INTEGERS.length)];
            case 2, 3 -> floatBits(random) | ((long) floatBits(random) << 32);
            case 4 -> SPECIAL_NANS[random.nextInt(SPECIAL_NANS.length)];
            case 5 -> Double.doubleToRawLongBits(random.nextDouble() * (1L << random.nextInt(40)));
            default -> Double.doubleToRawLongBits(DOUBLES[random.nextInt(DOUBLES.length)]);
        };
    }

    private static int floatBits(SplittableRandom random) {
        return switch (random.nextInt(6)) {
            case 0 -> random.nextInt();
            case 1 -> 0x7F80_0001 | (random.nextInt() & 0x8000_0000); // a signalling NaN
            case 2 -> random.nextInt() & 0x807F_FFFF; // a denormal
            case 3 -> Float.floatToRawIntBits((float) random.nextDouble());
            default -> Float.floatToRawIntBits((float) DOUBLES[random.nextInt(DOUBLES.length)]);
        };
    }

    private static void floatingPoint(MachineState state, SplittableRandom random) {
        boolean usual = random.nextInt(3) != 0;
        int rounding = random.nextInt(4);
        int precision = new int[] {0, 2, 3, 3}[random.nextInt(4)];
        int top = random.nextInt(8);
        state.fx.putShort(MachineState.FX_FCW, (short) (usual ? 0x37F : 0x7F | (precision << 8) | (rounding << 10)));
        int conditions = random.nextInt() & 0x4700;
        state.fx.putShort(MachineState.FX_FSW, (short) ((top << 11) | conditions));
        state.fx.put(MachineState.FX_FTW, (byte) (random.nextInt(4) == 0 ? random.nextInt(256) : 0xFF));
        boolean usualSse = random.nextInt(3) != 0;
        int modes = random.nextInt() & 0xE040;
        int sticky = random.nextInt(8) == 0 ? random.nextInt(64) : 0;
        state.fx.putInt(MachineState.FX_MXCSR, 0x1F80 | (usualSse ? 0 : modes) | sticky);
        for (int i = 0; i < 8; i++) {
            extended(state, MachineState.FX_ST + 16 * i, random);
        }
        for (int i = 0; i < 32; i++) {
            state.fx.putLong(MachineState.FX_XMM + 8 * i, vectorWord(random));
        }
    }

    private static void extended(MachineState state, int at, SplittableRandom random) {
        int sign = random.nextInt() & 0x8000;
        long significand = random.nextInt(3) == 0 ? Long.MIN_VALUE : random.nextLong() | Long.MIN_VALUE;
        int exponent = switch (random.nextInt(10)) {
            case 0 -> 0x7FFF;
            case 1 -> random.nextInt(0x8000);
            case 2 -> 0;
            default -> 16383 - 20 + random.nextInt(84);
        };
        if (exponent == 0) {
            significand = random.nextBoolean() ? 0 : significand >>> (1 + random.nextInt(40));
        }
        if (random.nextInt(6) == 0) { // a small integer
            int value = random.nextInt(1, 1000);
            int bits = 31 - Integer.numberOfLeadingZeros(value);
            significand = (long) value << (63 - bits);
            exponent = 16383 + bits;
        }
        state.fx.putLong(at, significand);
        state.fx.putShort(at + 8, (short) (sign | exponent));
    }
}
