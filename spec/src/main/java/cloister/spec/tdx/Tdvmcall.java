package cloister.spec.tdx;

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

    private Tdvmcall() {
    }
}
