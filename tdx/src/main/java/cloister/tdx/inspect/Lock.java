package cloister.tdx.inspect;

/// A lock.
///
/// @param name  as the specification calls it
/// @param state `free`, `exclusive`, `shared N`, and `host priority` where the host has asked for the lock in vain
public record Lock(String name, String state) {
    /// The state of a lock that nobody holds.
    public static final String FREE = "free";
}
