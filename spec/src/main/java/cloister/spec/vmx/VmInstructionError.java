package cloister.spec.vmx;

/// VM-instruction error numbers. [SDM Vol. 3 "VM Instruction Error Numbers"]
public final class VmInstructionError {
    public static final int VMCALL_IN_ROOT = 1;
    public static final int VMCLEAR_INVALID_ADDRESS = 2;
    public static final int VMCLEAR_VMXON_POINTER = 3;
    public static final int VMLAUNCH_NON_CLEAR = 4;
    public static final int VMRESUME_NON_LAUNCHED = 5;
    public static final int VMRESUME_AFTER_VMXOFF = 6;
    public static final int ENTRY_INVALID_CONTROLS = 7;
    public static final int ENTRY_INVALID_HOST_STATE = 8;
    public static final int VMPTRLD_INVALID_ADDRESS = 9;
    public static final int VMPTRLD_VMXON_POINTER = 10;
    public static final int VMPTRLD_WRONG_REVISION = 11;
    public static final int UNSUPPORTED_FIELD = 12;
    public static final int VMWRITE_READ_ONLY = 13;
    public static final int VMXON_IN_ROOT = 15;
    public static final int ENTRY_EVENTS_BLOCKED_BY_MOV_SS = 26;
    public static final int INVALID_INVEPT_INVVPID_OPERAND = 28;

    private VmInstructionError() {
    }
}
