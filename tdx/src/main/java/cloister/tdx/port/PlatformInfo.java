package cloister.tdx.port;

import java.util.List;

/// What the SEAM loader tells the module about the platform: its SYSINFO_TABLE. [TDX-CPU "SEAM loader"]
///
/// @param logicalProcessors total number of LPs
/// @param packages          total number of packages
/// @param cmrs              convertible memory ranges, ascending, at most 32
/// @param socketFms         CPUID(1).EAX of each package
/// @param smrr2NotSupported the module must leave SMRR2 alone, whatever IA32_MTRRCAP says
/// @param withoutIntegrity  private memory is encrypted but not integrity protected
public record PlatformInfo(int logicalProcessors, int packages, List<Cmr> cmrs, List<Integer> socketFms,
        boolean smrr2NotSupported, boolean withoutIntegrity) {
    public PlatformInfo {
        cmrs = List.copyOf(cmrs);
        socketFms = List.copyOf(socketFms);
    }

    /// A platform with integrity, and with SMRR2 if IA32_MTRRCAP says so.
    public PlatformInfo(int logicalProcessors, int packages, List<Cmr> cmrs, List<Integer> socketFms) {
        this(logicalProcessors, packages, cmrs, socketFms, false, false);
    }

    /// A convertible memory range.
    ///
    /// @param base first byte, 4 KiB aligned
    /// @param size bytes
    public record Cmr(long base, long size) {
    }
}
