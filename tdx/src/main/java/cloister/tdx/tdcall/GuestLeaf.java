package cloister.tdx.tdcall;

import cloister.tdx.core.LeafFailure;
import cloister.tdx.core.LpState;

/// A TDCALL leaf function. Its operands are the guest's registers in the VCPU's TDVPS. Every check precedes the first write.
@FunctionalInterface
public interface GuestLeaf {
    /// How a function that did not fail came to its end.
    enum Outcome {
        /// The guest goes on behind TDCALL with RAX = 0.
        COMPLETED,
        /// An interrupt of the host stopped it: the guest executes TDCALL again.
        INTERRUPTED
    }

    /// @param version RAX bits 23:16
    Outcome call(LpState lp, int version) throws LeafFailure;
}
