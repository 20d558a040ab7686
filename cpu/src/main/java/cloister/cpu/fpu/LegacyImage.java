package cloister.cpu.fpu;

/// The 512-byte FXSAVE image as 64 quadwords in an array. [SDM Vol. 1 "FXSAVE Area", "Legacy Region of an XSAVE Area"]
///
/// CS and DS of the x87 pointers are stored as zero: our silicon deprecates them (CPUID.7.EBX\[13\]).
final class LegacyImage {
    static final int CONTROL = 0;
    static final int FIP = 1;
    static final int FDP = 2;
    static final int MXCSR = 3;
    static final int ST = 4;
    static final int XMM = 20;
    static final int XMM_END = 52;
    static final int WORDS = 64;

    private LegacyImage() {
    }

    /// Stores the x87 state into words 0..2 and 4..19. With `wide` FIP and FDP have 64 bits (REX.W).
    static void saveX87(FpuState s, long[] image, boolean wide) {
        image[CONTROL] = (s.fcw & 0xffffL) | ((s.fsw & 0xffffL) << 16) | ((s.tags & 0xffL) << 32) | ((s.fop & 0x7ffL) << 48);
        image[FIP] = wide ? s.fip : s.fip & 0xffff_ffffL;
        image[FDP] = wide ? s.fdp : s.fdp & 0xffff_ffffL;
        int top = s.top();
        for (int n = 0; n < 8; n++) {
            int physical = (top + n) & 7;
            image[ST + 2 * n] = s.st[physical];
            image[ST + 2 * n + 1] = s.stExponent[physical] & 0xffffL;
        }
    }

    /// Loads the x87 state from words 0..2 and 4..19.
    static void loadX87(FpuState s, long[] image, boolean wide) {
        long control = image[CONTROL];
        s.fcw = X87.legalControl((int) control);
        s.fsw = (int) (control >>> 16) & 0xffff;
        s.tags = (int) (control >>> 32) & 0xff;
        s.fop = (int) (control >>> 48) & 0x7ff;
        s.fip = wide ? image[FIP] : image[FIP] & 0xffff_ffffL;
        s.fdp = wide ? image[FDP] : image[FDP] & 0xffff_ffffL;
        s.fcs = s.fds = 0;
        int top = s.top();
        for (int n = 0; n < 8; n++) {
            int physical = (top + n) & 7;
            s.st[physical] = image[ST + 2 * n];
            s.stExponent[physical] = (int) image[ST + 2 * n + 1] & 0xffff;
        }
        X87.updateSummary(s);
    }

    /// Stores MXCSR and its mask into word 3.
    static void saveMxcsr(FpuState s, long[] image) {
        image[MXCSR] = (s.mxcsr & 0xffff_ffffL) | ((long) FpuState.MXCSR_MASK << 32);
    }

    /// Whether the MXCSR of the image has reserved bits set.
    static boolean mxcsrReserved(long[] image) {
        return ((int) image[MXCSR] & ~FpuState.MXCSR_MASK) != 0;
    }

    static void loadMxcsr(FpuState s, long[] image) {
        s.mxcsr = (int) image[MXCSR] & FpuState.MXCSR_MASK;
    }

    /// Stores the first `registers` XMM registers.
    static void saveXmm(FpuState s, long[] image, int registers) {
        System.arraycopy(s.xmm, 0, image, XMM, 2 * registers);
    }

    static void loadXmm(FpuState s, long[] image, int registers) {
        System.arraycopy(image, XMM, s.xmm, 0, 2 * registers);
    }
}
