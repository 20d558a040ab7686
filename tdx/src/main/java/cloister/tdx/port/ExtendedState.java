package cloister.tdx.port;

/// The XSAVE area of a virtual processor that is not running: XBUFF of its TDVPS, in memory of the TD's KeyID. A processor
/// writes it as XSAVES64 does (compacted format, legacy region and header included) and reads it as XRSTORS64 does.
/// [SDM Vol. 1 "XSAVE Area"]
public interface ExtendedState {
    /// Offset of XMM0 in the legacy region; 16 bytes for each register.
    int XMM = 160;
    /// Offset of the header's XSTATE_BV.
    int XSTATE_BV = 512;
    /// Offset of the header's XCOMP_BV.
    int XCOMP_BV = 520;
    /// Offset of the first byte after the header.
    int EXTENDED = 576;

    /// The 64-bit word at `offset`, a multiple of 8.
    long word(int offset);

    /// Sets the 64-bit word at `offset`, a multiple of 8.
    void word(int offset, long value);

    /// Copies the first `length` bytes of the area out.
    void read(byte[] to, int length);

    /// Copies the first `length` bytes of the area in.
    void write(byte[] from, int length);
}
