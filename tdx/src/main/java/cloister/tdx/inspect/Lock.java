package cloister.tdx.inspect;

import java.util.List;

/// A lock.
///
/// @param name    as the specification calls it
/// @param state   `free`, `exclusive`, `shared N`, and `host priority` where the host has asked for the lock in vain
/// @param holders the logical processors that hold it: those whose guest keeps the page locked, or, of a lock that no guest keeps, those
///                that are inside a function
public record Lock(String name, String state, List<Integer> holders) {
    /// The state of a lock that nobody holds.
    public static final String FREE = "free";

    /// Whether nobody holds it or asked for it.
    public boolean isFree() {
        return state.equals(FREE);
    }
}
