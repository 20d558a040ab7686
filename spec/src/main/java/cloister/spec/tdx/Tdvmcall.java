package cloister.spec.tdx;

import cloister.spec.vmx.ExitReason;

/// Sub-functions and status codes of TDG.VP.VMCALL. [GHCI "TDG.VP.VMCALL Interface"]
public final class Tdvmcall {
    /// R11 values beyond the exit reasons of instructions.
    public static final long GET_TD_VM_CALL_INFO = 0x10000;
    public static final long MAP_GPA = 0x10001;
    public static final long GET_QUOTE = 0x10002;
    public static final long REPORT_FATAL_ERROR = 0x10003;
    public static final long SETUP_EVENT_NOTIFY_INTERRUPT = 0x10004;

    /// R10 on return.
    public static final long STATUS_SUCCESS = 0;
    public static final long STATUS_RETRY = 1;
    public static final long STATUS_INVALID_OPERAND = 0x8000_0000_0000_0000L;
    public static final long STATUS_ALIGN_ERROR = 0x8000_0000_0000_0002L;
    public static final long STATUS_SUBFUNC_UNSUPPORTED = 0x8000_0000_0000_0003L;

    private static final String[] CALL_NAMES = {"GET_TD_VM_CALL_INFO", "MAP_GPA", "GET_QUOTE", "REPORT_FATAL_ERROR",
            "SETUP_EVENT_NOTIFY_INTERRUPT"};
    private static final int INSTRUCTIONS = 128;

    private Tdvmcall() {
    }

    /// The name of a sub-function: that of the instruction that it stands for, MMIO for `#VE.RequestMMIO`, or one of those above. One
    /// without a name is its number.
    public static String name(long subFunction) {
        if (subFunction == ExitReason.EPT_VIOLATION) {
            return "MMIO";
        }
        if (subFunction == ExitReason.IO_INSTRUCTION) {
            return "IO";
        }
        if (subFunction >= 0 && subFunction < INSTRUCTIONS) {
            return ExitReason.name((int) subFunction);
        }
        long call = subFunction - GET_TD_VM_CALL_INFO;
        return call >= 0 && call < CALL_NAMES.length ? CALL_NAMES[(int) call] : "0x" + Long.toHexString(subFunction);
    }
}
