package cloister.tdx.port;

/// The extended state (x87, SSE and what else XFAM enables) of one virtual processor while it is not running: the
/// content of its XBUFF in TDVPS, kept in whatever form the processor likes best.
public interface ExtendedState {
    /// Brings the components in `mask` to their INIT state. MXCSR becomes 0x1f80 with component 1.
    void reset(long mask);

    /// The low 64 bits of XMM `index` (0..15).
    long xmmLow(int index);

    /// The high 64 bits of XMM `index` (0..15).
    long xmmHigh(int index);

    /// Sets XMM `index` (0..15) and marks the SSE component as in use.
    void xmm(int index, long low, long high);
}
