package cloister.tdx.seamcall;

import cloister.tdx.core.LeafFailure;
import cloister.tdx.core.LpState;

/// A SEAMCALL leaf function. Every check precedes the first write; a normal return is success.
@FunctionalInterface
public interface HostLeaf {
    /// @param version RAX bits 23:16
    void call(LpState lp, int version) throws LeafFailure;
}
