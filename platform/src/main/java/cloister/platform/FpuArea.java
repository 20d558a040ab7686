package cloister.platform;

import cloister.cpu.LogicalProcessor;
import cloister.cpu.fpu.FpuState;
import cloister.cpu.fpu.XsaveArea;
import cloister.tdx.port.ExtendedState;
import java.lang.foreign.MemorySegment;

/// XSAVES64 and XRSTORS64 between a logical processor and the TDX module's area, by way of an image in the host program.
final class FpuArea {
    private final byte[] bytes = new byte[XsaveArea.size(XsaveArea.SUPPORTED, true)];
    private final MemorySegment image = MemorySegment.ofArray(bytes);

    void save(LogicalProcessor lp, ExtendedState state, long mask) {
        XsaveArea.save(lp.fpu(), lp.pkru(), mask, true, image);
        state.write(bytes, XsaveArea.size(mask, true));
    }

    /// @return false when XRSTORS raises #GP
    boolean load(LogicalProcessor lp, ExtendedState state, long mask) {
        state.read(bytes, XsaveArea.size(mask, true));
        if (!XsaveArea.valid(image, mask, true)) {
            return false;
        }
        lp.pkru(XsaveArea.restore(lp.fpu(), lp.pkru(), mask, image));
        return true;
    }

    static void reset(LogicalProcessor lp, long mask) {
        if ((mask & XsaveArea.X87) != 0) {
            lp.fpu().initX87();
        }
        if ((mask & XsaveArea.SSE) != 0) {
            lp.fpu().initSse();
            lp.fpu().mxcsr = FpuState.INITIAL_MXCSR;
        }
        if ((mask & XsaveArea.PKRU) != 0) {
            lp.pkru(0);
        }
    }
}
