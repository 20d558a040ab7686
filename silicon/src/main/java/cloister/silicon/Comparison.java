package cloister.silicon;

import static cloister.silicon.MachineState.*;

import cloister.isa.CodeMode;
import cloister.isa.Decoder;
import cloister.isa.Disassembler;
import cloister.isa.Instruction;
import cloister.isa.Op;
import java.util.HexFormat;
import java.util.Locale;

/// Compares what the model did with what silicon did, without what is undefined.
final class Comparison {
    private static final String[] REGISTERS = {"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
        "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15"};
    private static final String[] SEGMENTS = {"es", "cs", "ss", "ds", "fs", "gs"};
    /// Arithmetic flags and DF.
    private static final int FLAGS = 0xCD5;
    private static final int AF = 0x10;
    private static final int C1 = 0x200;
    private static final int PE = 0x20;
    private static final int UE = 0x10;
    private static final double APPROXIMATION = 3 * 0x1p-12;

    private final Case c;
    private final Instruction i;
    private final boolean sequence;
    private final MachineState before;
    private final Outcome silicon;
    private final Outcome model;
    private final StringBuilder differences = new StringBuilder();

    private Comparison(Case c, Instruction i, MachineState before, Outcome silicon, Outcome model) {
        this.c = c;
        this.i = i;
        sequence = i.length < c.code().length;
        this.before = before;
        this.silicon = silicon;
        this.model = model;
    }

    /// The differences in words, or null if there is none that counts. `i` is the case's first instruction.
    static String differences(Case c, Instruction i, Outcome silicon, Outcome model) {
        MachineState before = c.initial();
        boolean sequence = i.length < c.code().length;
        if (silicon.vector() == Outcome.LOST || (!sequence && Undefined.result(c.mode(), i, before))) {
            return null;
        }
        Comparison comparison = new Comparison(c, i, before, silicon, model);
        comparison.compare();
        return comparison.differences.isEmpty() ? null : comparison.describe();
    }

    private String describe() {
        return String.format(Locale.ROOT, "%s %s  %s (slot %d seed %x %s)%s", c.mode(), HexFormat.of().formatHex(c.code()),
            text(), c.slot(), c.seed(), c.changes(), differences);
    }

    private String text() {
        StringBuilder text = new StringBuilder();
        Decoder decoder = new Decoder();
        for (int at = 0; at < c.code().length;) {
            Instruction next = decoder.decode(c.mode(), c.code(), at, c.code().length - at);
            text.append(at == 0 ? "" : "; ").append(Disassembler.format(next, c.start() + at));
            at += Math.max(next.length, 1);
        }
        return text.toString();
    }

    private void compare() {
        number("vector", silicon.vector(), model.vector(), -1);
        if (silicon.vector() != model.vector()) {
            return;
        }
        if (silicon.faulted()) {
            boolean kernelHalf = silicon.cr2() < 0; // whether a page is present there is the host kernel's business
            number("error code", silicon.errorCode(), model.errorCode(), kernelHalf ? ~1 : -1);
            number("cr2", silicon.cr2(), model.cr2(), Undefined.faultOffset(i) ? 0 : -1);
        }
        MachineState expected = silicon.state();
        MachineState actual = model.state();
        // What left 64-bit mode has undefined upper halves.
        long halves = c.mode() == CodeMode.BITS64 && expected.segments[1] != Layout.USER_CS64 ? 0xFFFF_FFFFL : -1;
        for (int r = 0; r < 16; r++) {
            number(REGISTERS[r], expected.gpr[r], actual.gpr[r], halves, before.gpr[r]);
        }
        number("rip", expected.rip, actual.rip, -1);
        segments(expected, actual);
        int undefined = sequence ? AF : silicon.faulted() ? 0 : Undefined.flags(i, before);
        number("rflags", expected.rflags, actual.rflags, FLAGS & ~undefined, before.rflags);
        data(expected, actual);
        floatingPoint(expected, actual);
    }

    private void segments(MachineState expected, MachineState actual) {
        for (int s = 0; s < 6; s++) {
            // The kernel's IRET on the way to the signal handler turns null selectors 1 to 3 into 0.
            number(SEGMENTS[s], expected.segments[s] < 4 ? 0 : expected.segments[s], actual.segments[s] < 4 ? 0 : actual.segments[s], -1);
        }
        // Intel clears the base with the selector, AMD keeps it. [APM Vol. 2 "FS and GS Registers in 64-Bit Mode"]
        number("fs base", expected.fsBase, actual.fsBase, Undefined.loadsNull(i, expected, 4) ? 0 : -1);
        number("gs base", expected.gsBase, actual.gsBase, Undefined.loadsNull(i, expected, 5) ? 0 : -1);
    }

    private void number(String name, long expected, long actual, long mask, long... was) {
        if ((expected & mask) != (actual & mask)) {
            differences.append("\n    ").append(name).append(": silicon ").append(Long.toHexString(expected))
                .append(", model ").append(Long.toHexString(actual));
            if (was.length > 0) {
                differences.append(", before ").append(Long.toHexString(was[0]));
            }
        }
    }

    private void data(MachineState expected, MachineState actual) {
        int image = imageStart(expected);
        for (int at = 0; at < Layout.DATA_BYTES; at++) {
            int mask = i.op == Op.PUSHF && at >= image && at < image + 8 ? at == image + 1 ? 0xFE : 0xFF : 0xFF; // the pushed TF
            boolean differs = ((expected.data.get(at) ^ actual.data.get(at)) & mask) != 0;
            if (differs && !Undefined.imageByte(i, at - image)) {
                int word = at & -8;
                number("data[" + Integer.toHexString(word) + "]", expected.data.getLong(word), actual.data.getLong(word), -1,
                    before.data.getLong(word));
                at = word + 7;
            }
        }
    }

    /// Where the image that the instruction writes starts in the data window.
    private int imageStart(MachineState after) {
        long address = switch (i.op) {
            case PUSHF, PUSH_SREG -> after.gpr[4] + Layout.dataBase(c.mode());
            case FXSAVE, XSAVE, XSAVEC, FNSTENV, FNSAVE -> Addressing.effective(c.mode(), i, before);
            default -> 0;
        };
        return (int) (address - Layout.DATA);
    }

    private void floatingPoint(MachineState expected, MachineState actual) {
        boolean approximate = !sequence && Undefined.approximate(i) && !silicon.faulted();
        int status = approximate ? 0xFFFF & ~(C1 | PE | UE) : Undefined.c1(i) ? 0xFFFF & ~C1 : 0xFFFF;
        number("mxcsr", expected.fx.getInt(FX_MXCSR), actual.fx.getInt(FX_MXCSR), -1, before.fx.getInt(FX_MXCSR));
        sse(expected, actual, approximate);
        if (Undefined.switchesToMmx(i)) {
            return;
        }
        number("fcw", expected.fx.getShort(FX_FCW) & 0xFFFF, actual.fx.getShort(FX_FCW) & 0xFFFF, -1);
        number("fsw", expected.fx.getShort(FX_FSW) & 0xFFFF, actual.fx.getShort(FX_FSW) & 0xFFFF, status,
            before.fx.getShort(FX_FSW) & 0xFFFF);
        number("ftw", expected.fx.get(FX_FTW) & 0xFF, actual.fx.get(FX_FTW) & 0xFF, -1, before.fx.get(FX_FTW) & 0xFF);
        for (int n = 0; n < 8; n++) {
            int at = FX_ST + 16 * n;
            long e = expected.fx.getLong(at);
            long a = actual.fx.getLong(at);
            int eSign = expected.fx.getShort(at + 8) & 0xFFFF;
            int aSign = actual.fx.getShort(at + 8) & 0xFFFF;
            if (!(approximate && closeExtended(e, eSign, a, aSign))) {
                number("st" + n + " significand", e, a, -1, before.fx.getLong(at));
                number("st" + n + " exponent", eSign, aSign, -1, before.fx.getShort(at + 8) & 0xFFFF);
            }
        }
    }

    private void sse(MachineState expected, MachineState actual, boolean approximate) {
        for (int n = 0; n < 64; n++) {
            int at = FX_XMM + 4 * n;
            int e = expected.fx.getInt(at);
            int a = actual.fx.getInt(at);
            if (e != a && !(approximate && closeFloat(e, a))) {
                number("xmm" + n / 4 + "[" + n % 4 + "]", e & 0xFFFF_FFFFL, a & 0xFFFF_FFFFL, -1, before.fx.getInt(at) & 0xFFFF_FFFFL);
            }
        }
    }

    /// Within a few units in the last place.
    private static boolean closeExtended(long e, int eSign, long a, int aSign) {
        if (eSign == aSign) {
            return Math.abs(e - a) <= 4 || e == a;
        }
        boolean carried = Math.abs(eSign - aSign) == 1; // one just below a power of two, the other on it
        return carried && Math.abs(e + e - a) <= 16 | Math.abs(a + a - e) <= 16;
    }

    private static boolean closeFloat(int e, int a) {
        float x = Float.intBitsToFloat(e);
        float y = Float.intBitsToFloat(a);
        return Math.abs(x - y) <= Math.max(APPROXIMATION * Math.abs(x), Float.MIN_NORMAL); // tiny results may be flushed
    }
}
