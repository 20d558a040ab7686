package cloister.cpu.fpu;

import java.util.Arrays;

/// The x87, MMX and SSE registers of one logical processor. [SDM Vol. 1 "Programming with the x87 FPU", "Programming with
/// Intel SSE"]
///
/// Fields instead of accessors: execution engines work on them directly. An MMX register is the significand of the physical
/// x87 register of the same number.
public final class FpuState {
    /// FCW after FNINIT, FNSAVE and in XRSTOR's initial configuration.
    public static final int INITIAL_FCW = 0x37f;
    /// FCW after RESET.
    public static final int RESET_FCW = 0x40;
    /// MXCSR after RESET and in XRSTOR's initial configuration.
    public static final int INITIAL_MXCSR = 0x1f80;
    /// The bits of MXCSR that exist (MXCSR_MASK of FXSAVE): all sixteen, DAZ included.
    public static final int MXCSR_MASK = 0xffff;
    /// Index in [#xmm] of a two-word slot that holds an operand from memory for the time of one instruction.
    public static final int OPERAND = 32;
    /// Index in [#st] of the slot that holds an MMX operand from memory for the time of one instruction.
    public static final int MMX_OPERAND = 8;

    /// XMM0..XMM15, low quadword first: register `n` is words `2n` and `2n + 1`. Words 32 and 33 are [#OPERAND].
    public final long[] xmm = new long[34];
    /// Significands of the physical registers R0..R7, which are MM0..MM7; word 8 is [#MMX_OPERAND].
    public final long[] st = new long[9];
    /// Sign (bit 15) and biased exponent (bits 14:0) of the physical registers R0..R7.
    public final int[] stExponent = new int[8];

    /// Control word.
    public int fcw;
    /// Status word, TOP and B included.
    public int fsw;
    /// The abridged tag word: bit `n` is set when physical register R`n` is not empty.
    public int tags;
    /// The last opcode, 11 bits.
    public int fop;
    /// Offset (or 64-bit address) of the last non-control x87 instruction.
    public long fip;
    /// Offset (or 64-bit address) of its memory operand.
    public long fdp;
    /// CS of the last non-control x87 instruction; 0 in 64-bit mode.
    public int fcs;
    /// Segment of its memory operand; 0 in 64-bit mode.
    public int fds;
    /// SSE control and status.
    public int mxcsr;

    /// Workspace of the arithmetic.
    final SoftFloat soft = new SoftFloat();
    /// Scratch for one FXSAVE or XSAVE image in compacted format.
    final long[] image = new long[LegacyImage.WORDS + 9];

    public FpuState() {
        reset();
    }

    /// The state after RESET. [SDM Vol. 3 "Processor State After Reset"]
    public void reset() {
        initX87();
        fcw = RESET_FCW;
        tags = 0xff;
        initSse();
        mxcsr = INITIAL_MXCSR;
    }

    /// XSAVE component 0 to its initial configuration. [SDM Vol. 1 "XSAVE-Supported Features: x87 State"]
    public void initX87() {
        finit();
        Arrays.fill(st, 0);
        Arrays.fill(stExponent, 0);
    }

    /// XSAVE component 1 to its initial configuration; MXCSR is the caller's business.
    public void initSse() {
        Arrays.fill(xmm, 0);
    }

    /// FNINIT: control, status, tags and pointers; the data registers keep their content.
    public void finit() {
        fcw = INITIAL_FCW;
        fsw = 0;
        tags = 0;
        fop = 0;
        fip = fdp = 0;
        fcs = fds = 0;
    }

    /// Copies everything from `other`.
    public void copyFrom(FpuState other) {
        System.arraycopy(other.xmm, 0, xmm, 0, xmm.length);
        System.arraycopy(other.st, 0, st, 0, st.length);
        System.arraycopy(other.stExponent, 0, stExponent, 0, stExponent.length);
        fcw = other.fcw;
        fsw = other.fsw;
        tags = other.tags;
        fop = other.fop;
        fip = other.fip;
        fdp = other.fdp;
        fcs = other.fcs;
        fds = other.fds;
        mxcsr = other.mxcsr;
    }

    /// TOP of the status word.
    public int top() {
        return (fsw >> 11) & 7;
    }

    /// Sets TOP.
    public void top(int value) {
        fsw = (fsw & ~0x3800) | ((value & 7) << 11);
    }

    /// The full tag word, computed from the registers: 0 valid, 1 zero, 2 special, 3 empty, two bits per physical register.
    public int tagWord() {
        int word = 0;
        for (int n = 0; n < 8; n++) {
            word |= tag(n) << (2 * n);
        }
        return word;
    }

    private int tag(int n) {
        if (((tags >> n) & 1) == 0) {
            return 3;
        }
        int exponent = stExponent[n] & 0x7fff;
        if (exponent == 0 && st[n] == 0) {
            return 1;
        }
        return exponent == 0 || exponent == 0x7fff || st[n] >= 0 ? 2 : 0;
    }

    /// Sets the tags from a full tag word: only empty or not matters.
    public void tagWord(int word) {
        int abridged = 0;
        for (int n = 0; n < 8; n++) {
            if (((word >> (2 * n)) & 3) != 3) {
                abridged |= 1 << n;
            }
        }
        tags = abridged;
    }

    /// XSAVE's XINUSE for component 0.
    public boolean x87InUse() {
        if (fcw != INITIAL_FCW || fsw != 0 || tags != 0 || fop != 0 || (fip | fdp) != 0 || (fcs | fds) != 0) {
            return true;
        }
        long any = 0;
        for (int n = 0; n < 8; n++) {
            any |= st[n] | stExponent[n];
        }
        return any != 0;
    }

    /// XSAVE's XINUSE for component 1: the XMM registers, not MXCSR.
    public boolean sseInUse() {
        return sseInUse(16);
    }

    /// XINUSE for component 1 where only the first `registers` exist.
    boolean sseInUse(int registers) {
        long any = 0;
        for (int n = 0; n < 2 * registers; n++) {
            any |= xmm[n];
        }
        return any != 0;
    }
}
