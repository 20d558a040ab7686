package cloister.platform;

import cloister.cpu.LogicalProcessor;
import cloister.cpu.fpu.FpuState;
import cloister.cpu.fpu.XsaveArea;
import cloister.tdx.port.ExtendedState;

/// The extended state of a virtual processor that is not running: registers, not an XSAVE image.
final class FpuArea implements ExtendedState {
    private final FpuState registers = new FpuState();
    private int pkru;

    FpuArea() {
        reset(XsaveArea.SUPPORTED);
    }

    @Override public void reset(long mask) {
        initialise(registers, mask);
        if ((mask & XsaveArea.PKRU) != 0) {
            pkru = 0;
        }
    }

    private static void initialise(FpuState state, long mask) {
        if ((mask & XsaveArea.X87) != 0) {
            state.initX87();
        }
        if ((mask & XsaveArea.SSE) != 0) {
            state.initSse();
            state.mxcsr = FpuState.INITIAL_MXCSR;
        }
    }

    static void reset(LogicalProcessor lp, long mask) {
        initialise(lp.fpu(), mask);
        if ((mask & XsaveArea.PKRU) != 0) {
            lp.pkru(0);
        }
    }

    void save(LogicalProcessor lp, long mask) {
        copy(lp.fpu(), registers, mask);
        if ((mask & XsaveArea.PKRU) != 0) {
            pkru = lp.pkru();
        }
    }

    void load(LogicalProcessor lp, long mask) {
        copy(registers, lp.fpu(), mask);
        if ((mask & XsaveArea.PKRU) != 0) {
            lp.pkru(pkru);
        }
    }

    private static void copy(FpuState from, FpuState to, long mask) {
        if ((mask & XsaveArea.X87) != 0) {
            System.arraycopy(from.st, 0, to.st, 0, 8);
            System.arraycopy(from.stExponent, 0, to.stExponent, 0, 8);
            to.fcw = from.fcw;
            to.fsw = from.fsw;
            to.tags = from.tags;
            to.fop = from.fop;
            to.fip = from.fip;
            to.fdp = from.fdp;
            to.fcs = from.fcs;
            to.fds = from.fds;
        }
        if ((mask & XsaveArea.SSE) != 0) {
            System.arraycopy(from.xmm, 0, to.xmm, 0, 32);
            to.mxcsr = from.mxcsr;
        }
    }

    @Override public long xmmLow(int index) {
        return registers.xmm[2 * index];
    }

    @Override public long xmmHigh(int index) {
        return registers.xmm[2 * index + 1];
    }

    @Override public void xmm(int index, long low, long high) {
        registers.xmm[2 * index] = low;
        registers.xmm[2 * index + 1] = high;
    }
}
