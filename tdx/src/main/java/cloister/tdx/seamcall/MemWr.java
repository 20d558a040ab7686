package cloister.tdx.seamcall;

import static cloister.tdx.core.LpState.R8;

import cloister.spec.tdx.SeamcallLeaf;
import cloister.tdx.core.LeafFailure;
import cloister.tdx.core.LpState;

/// TDH.MEM.WR, leaf 14: R8 receives what was there before. [TDX-ABI "TDH.MEM.WR"]
final class MemWr implements HostLeaf {
    @Override public void call(LpState lp, int version) throws LeafFailure {
        long value = lp.reg(R8);
        DebugMemory.access(lp, SeamcallLeaf.MEM_WR, hpa -> lp.module.memory.write(hpa, 8, value));
    }
}
