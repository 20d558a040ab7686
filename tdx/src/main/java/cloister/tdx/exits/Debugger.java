package cloister.tdx.exits;

import cloister.spec.tdx.TdxStatus;
import cloister.spec.vmx.ExitReason;
import cloister.spec.vmx.VmcsField;
import cloister.tdx.core.LpState;

/// The debugger of a debug TD sees the exceptions of its exception bitmap even when the module injects them. [TDX-BASE "Debug
/// TDs"]
public final class Debugger {
    private static final long VALID = 1L << 31;
    private static final int HARDWARE_EXCEPTION = 3;
    private static final int PAGE_FAULT = 14;

    private Debugger() {
    }

    /// Before the guest goes on: a TD exit instead of an exception that the debugger wants.
    public static void intercept(LpState lp) {
        if (lp.tdcs.debug() && wants(lp)) {
            throw TdExit.async(lp, TdxStatus.SUCCESS, ExitReason.EXCEPTION_OR_NMI, 0, 0, 0,
                    lp.vmcs.read(VmcsField.ENTRY_INTERRUPTION_INFO));
        }
    }

    private static boolean wants(LpState lp) {
        var vmcs = lp.vmcs;
        long info = vmcs.read(VmcsField.ENTRY_INTERRUPTION_INFO);
        long vector = info & 0xff;
        if ((info & VALID) == 0 || ((info >>> 8) & 7) != HARDWARE_EXCEPTION
                || ((vmcs.read(VmcsField.EXCEPTION_BITMAP) >>> vector) & 1) == 0) {
            return false;
        }
        if (vector != PAGE_FAULT) {
            return true;
        }
        long code = vmcs.read(VmcsField.EXIT_INTERRUPTION_ERROR_CODE);
        return (code & vmcs.read(VmcsField.PAGE_FAULT_ERROR_CODE_MASK)) == vmcs.read(VmcsField.PAGE_FAULT_ERROR_CODE_MATCH);
    }
}
