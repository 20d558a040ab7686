package cloister.tdx;

import cloister.memory.PhysicalMemory;
import cloister.spec.tdx.SeamRegs;
import cloister.tdx.dispatch.SeamCore;
import cloister.tdx.inspect.ModuleSnapshot;
import cloister.tdx.port.PlatformInfo;
import cloister.tdx.port.Processor;

/// The TDX module 1.5.06, as the SEAM loader installs it once per platform.
public final class TdxModule {
    private final SeamCore core;

    /// The module just loaded: nothing initialised.
    public TdxModule(PhysicalMemory memory, PlatformInfo platform) {
        this.core = new SeamCore(memory, platform);
    }

    /// What the module knows now, down to each entry of each Secure EPT. It changes nothing. The caller holds the scheduler's
    /// baton, so no SEAMCALL makes progress meanwhile; one that waits at a switch point shows by its locks.
    public ModuleSnapshot inspect() {
        return core.inspect();
    }

    /// SEAMCALL on `lp` with the VMM's registers, which receive the result. TDH.VP.ENTER runs the guest inside, through
    /// [Processor#enter], until a TD exit.
    public void seamcall(Processor lp, SeamRegs regs) {
        boolean inGuest = core.call(lp, regs);
        while (inGuest) {
            lp.enter(core.vmcs(lp));
            inGuest = core.vmExit(lp);
        }
    }
}
