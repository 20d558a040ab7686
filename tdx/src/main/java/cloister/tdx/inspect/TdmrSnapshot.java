package cloister.tdx.inspect;

import java.util.List;

/// A trust-domain memory region. [TDX-BASE "TDMR"]
///
/// @param base            first byte
/// @param size            bytes
/// @param lastInitialized end of the part whose PAMT entries TDH.SYS.TDMR.INIT has initialised
/// @param pamtBases       base of the PAMT range for 4 KiB, 2 MiB and 1 GiB pages
/// @param pamtSizes       its bytes
/// @param reserved        the reserved areas
/// @param lock            state of the TDMR's lock, as in [Lock]
public record TdmrSnapshot(long base, long size, long lastInitialized, List<Long> pamtBases, List<Long> pamtSizes,
        List<Area> reserved, String lock) {
    /// A range of physical addresses.
    ///
    /// @param base first byte
    /// @param size bytes
    public record Area(long base, long size) {
    }
}
