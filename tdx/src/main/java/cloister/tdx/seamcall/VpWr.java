package cloister.tdx.seamcall;

import static cloister.tdx.core.LpState.R8;
import static cloister.tdx.core.LpState.R9;
import static cloister.tdx.core.LpState.RDX;

import cloister.spec.tdx.SeamcallLeaf;
import cloister.tdx.core.FieldAccess;
import cloister.tdx.core.LeafFailure;
import cloister.tdx.core.LpState;

/// TDH.VP.WR, leaf 43: writes bits of a field of a VCPU. [TDX-ABI "TDH.VP.WR"]
final class VpWr implements HostLeaf {
    @Override public void call(LpState lp, int version) throws LeafFailure {
        long value = lp.reg(R8);
        lp.reg(R8, 0);
        VcpuFields.access(lp, SeamcallLeaf.VP_WR, FieldAccess.HOST_WRITE,
                fields -> lp.reg(R8, fields.write(lp.reg(RDX), value, lp.reg(R9))));
    }
}
