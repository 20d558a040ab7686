package cloister.cpu;

import cloister.spec.tdx.SeamRegs;

/// What SEAMCALL enters: the module that the SEAM loader installed. [TDX-CPU "SEAMCALL"]
@FunctionalInterface
public interface SeamFirmware {
    /// Serves one SEAMCALL of `lp`'s VMM; `regs` are its registers, in and out.
    void seamcall(LogicalProcessor lp, SeamRegs regs);
}
