package cloister.silicon;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;

/// What user-mode instructions see: general registers, RIP, RFLAGS, the x87 and SSE registers as an FXSAVE image, and the
/// data window of [Layout#DATA].
final class MachineState {
    static final int FX_FCW = 0;
    static final int FX_FSW = 2;
    static final int FX_FTW = 4;
    static final int FX_FOP = 6;
    static final int FX_FIP = 8;
    static final int FX_MXCSR = 24;
    static final int FX_MXCSR_MASK = 28;
    static final int FX_ST = 32;
    static final int FX_XMM = 160;
    static final int FX_USED = 416;

    final long[] gpr = new long[16];
    long rip;
    long rflags;
    /// Selectors of ES, CS, SS, DS, FS, GS.
    final int[] segments = new int[6];
    long fsBase = Layout.FS_BASE;
    long gsBase = Layout.GS_BASE;
    final ByteBuffer fx = ByteBuffer.allocate(512).order(ByteOrder.LITTLE_ENDIAN);
    final ByteBuffer data = ByteBuffer.allocate(Layout.DATA_BYTES).order(ByteOrder.LITTLE_ENDIAN);
}
