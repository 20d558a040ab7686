package cloister.tdx.port;

import java.util.List;

/// What the SEAM loader tells the module about the platform: its SYSINFO_TABLE. [TDX-LOADER "SYSINFO_TABLE"]
///
/// @param logicalProcessors total number of LPs
/// @param packages          total number of packages
/// @param cmrs              convertible memory ranges, ascending, at most 32
/// @param socketFms         CPUID(1).EAX of each package
public record PlatformInfo(int logicalProcessors, int packages, List<Cmr> cmrs, List<Integer> socketFms) {
    public PlatformInfo {
        cmrs = List.copyOf(cmrs);
        socketFms = List.copyOf(socketFms);
    }

    /// A convertible memory range.
    ///
    /// @param base first byte, 4 KiB aligned
    /// @param size bytes
    public record Cmr(long base, long size) {
    }
}
