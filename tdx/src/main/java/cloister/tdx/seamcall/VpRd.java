package cloister.tdx.seamcall;

import cloister.spec.tdx.SeamcallLeaf;
import cloister.tdx.core.FieldAccess;
import cloister.tdx.core.LeafFailure;
import cloister.tdx.core.LpState;

/// TDH.VP.RD, leaf 26: reads a field of a VCPU, even a disabled one; version 1 also names the next field.
/// [TDX-ABI "TDH.VP.RD"]
final class VpRd implements HostLeaf {
    @Override public void call(LpState lp, int version) throws LeafFailure {
        var read = new FieldRead(lp, version);
        VcpuFields.access(lp, SeamcallLeaf.VP_RD, FieldAccess.HOST_READ, read::from);
    }
}
