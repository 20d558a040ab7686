package cloister.tdx.core;

/// A SEAMCALL leaf function. Every check precedes the first write; a normal return is success.
@FunctionalInterface
interface HostLeaf {
    /// @param version RAX bits 23:16
    void call(LpState lp, int version) throws LeafFailure;
}
