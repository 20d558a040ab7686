package cloister.platform;

import cloister.cpu.LogicalProcessor;
import cloister.cpu.fpu.XsaveArea;
import cloister.tdx.port.ExtendedState;
import java.lang.foreign.MemorySegment;

/// XSAVES64 and XRSTORS64 between a logical processor and the TDX module's area, by way of an image in the host program.
final class FpuArea {
    private final byte[] bytes = new byte[XsaveArea.size(XsaveArea.SUPPORTED, true)];
    private final MemorySegment image = MemorySegment.ofArray(bytes);

    void save(LogicalProcessor lp, ExtendedState state, long mask) {
        lp.xsaves(mask, image);
        state.write(bytes, XsaveArea.size(mask, true));
    }

    /// @return false when XRSTORS raises #GP
    boolean load(LogicalProcessor lp, ExtendedState state, long mask) {
        state.read(bytes, XsaveArea.size(mask, true));
        return lp.xrstors(mask, image);
    }
}
