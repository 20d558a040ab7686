package cloister.tdx.seamcall;

import cloister.spec.tdx.SeamcallLeaf;
import cloister.tdx.core.LeafFailure;
import cloister.tdx.core.LpState;

/// TDH.MEM.RD, leaf 12. [TDX-ABI "TDH.MEM.RD"]
final class MemRd implements HostLeaf {
    @Override public void call(LpState lp, int version) throws LeafFailure {
        DebugMemory.access(lp, SeamcallLeaf.MEM_RD, hpa -> {
        });
    }
}
