package cloister.tdx.inspect;

/// KeyIDs in a row that are in the same state. [TDX-BASE "Key Ownership Table (KOT)"]
///
/// @param first             the first KeyID
/// @param last              the last KeyID
/// @param state             FREE, ASSIGNED, FLUSHED or RESERVED
/// @param writeBackPackages bitmap of the packages whose caches may still hold lines of the KeyID
public record KeyIdRange(int first, int last, String state, int writeBackPackages) {
}
