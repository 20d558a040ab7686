package cloister.cpu;

import cloister.cpu.vmx.Vmcs;
import cloister.spec.tdx.SeamRegs;

/// Sees what happens on the logical processors, for traces, statistics and the determinism hash. An observer only looks: it
/// changes nothing and takes no switch points. TDCALLs are VM exits with reason 77 of a TD's VMCS.
public interface PlatformObserver {
    /// A VM entry succeeded its checks; the guest is about to run.
    default void vmEntry(LogicalProcessor lp, Vmcs vmcs) {
    }

    /// A VM exit; its information is in `vmcs`, the guest's general registers are live in `lp`.
    default void vmExit(LogicalProcessor lp, Vmcs vmcs) {
    }

    /// SEAMCALL with the VMM's registers.
    default void seamcallEntry(LogicalProcessor lp, SeamRegs regs) {
    }

    /// The SEAMCALL that began last on `lp` returns; `leaf` is its RAX of then.
    default void seamcallExit(LogicalProcessor lp, long leaf, SeamRegs regs) {
    }
}
