package cloister.tdx.exits;

import cloister.tdx.core.Tdcs;

/// RDPMC: #GP in a TD without performance monitoring; in another it exits only when a debugger made it. [TDX-BASE
/// "Performance Monitoring"]
final class RdpmcExit {
    private RdpmcExit() {
    }

    static void handle(VmExit exit) {
        if (exit.lp.tdcs.hasAttribute(Tdcs.PERFMON)) {
            throw exit.debuggersOnly();
        }
        Inject.gp(exit.lp);
    }
}
