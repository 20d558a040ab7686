package cloister.tdx.core;

import cloister.memory.PhysicalMemory;
import cloister.tdx.port.ExtendedState;

/// XBUFF: where the extended state of a VCPU is while it does not run. [TDX-ABI "TDVPS Guest Extended State"]
public final class Xbuff implements ExtendedState {
    private static final int START = 0x3000;
    private static final long COMPACTED = 1L << 63;
    private static final long SSE = 1 << 1;
    private static final int FRAME = (int) PhysicalMemory.FRAME_SIZE;

    private final Tdvps vcpu;

    public Xbuff(Tdvps vcpu) {
        this.vcpu = vcpu;
    }

    @Override public long word(int offset) {
        return vcpu.u64(START + offset);
    }

    @Override public void word(int offset, long value) {
        vcpu.u64(START + offset, value);
    }

    @Override public void read(byte[] to, int length) {
        for (int at = 0; at < length; at += FRAME) {
            vcpu.memory.read(vcpu.at(START + at), to, at, Math.min(FRAME, length - at));
        }
    }

    @Override public void write(byte[] from, int length) {
        for (int at = 0; at < length; at += FRAME) {
            vcpu.memory.write(vcpu.at(START + at), from, at, Math.min(FRAME, length - at));
        }
    }

    /// What TDH.VP.INIT writes: the compacted format, nothing in use.
    public void initialise() {
        word(XCOMP_BV, COMPACTED);
    }

    /// Whether XRSTORS with XCR0 and IA32_XSS from `xfam` accepts the header. [SDM Vol. 1 "Operation of XRSTORS"]
    public boolean isRestorable(long xfam) {
        long components = word(XCOMP_BV);
        if (components >= 0 || (components & ~COMPACTED & ~xfam) != 0 || (word(XSTATE_BV) & ~components) != 0) {
            return false;
        }
        for (int at = XCOMP_BV + 8; at < EXTENDED; at += 8) {
            if (word(at) != 0) {
                return false;
            }
        }
        return true;
    }

    /// The low half of XMM `index` (0..15).
    public long xmmLow(int index) {
        return word(XMM + 16 * index);
    }

    /// The high half of XMM `index` (0..15).
    public long xmmHigh(int index) {
        return word(XMM + 16 * index + 8);
    }

    /// Sets XMM `index` (0..15); SSE state is in use from now on.
    public void xmm(int index, long low, long high) {
        word(XMM + 16 * index, low);
        word(XMM + 16 * index + 8, high);
        word(XSTATE_BV, word(XSTATE_BV) | SSE);
    }
}
