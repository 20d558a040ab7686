package cloister.tdx.seamcall;

import cloister.tdx.core.LpState;

/// TDH.SYS.LP.SHUTDOWN, leaf 44: deprecated, succeeds in every state of the module. [TDX-ABI "TDH.SYS.LP.SHUTDOWN"]
final class SysLpShutdown implements HostLeaf {
    @Override public void call(LpState lp, int version) {
    }
}
