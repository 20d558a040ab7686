package cloister.tdx.seamcall;

import cloister.tdx.core.LpState;

/// TDH.MNG.KEY.RECLAIMID, leaf 27, which does nothing: TDH.MNG.VPFLUSHDONE took its place. [TDX-ABI "TDH.MNG.KEY.RECLAIMID"]
final class MngKeyReclaimid implements HostLeaf {
    @Override public void call(LpState lp, int version) {
    }
}
