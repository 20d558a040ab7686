package cloister.spec.vmx;

/// Layouts of the exit-qualification field. [SDM Vol. 3 "Basic VM-Exit Information"]
public final class ExitQualification {
    // EPT violations
    public static final long EPT_READ = 1;
    public static final long EPT_WRITE = 1 << 1;
    public static final long EPT_FETCH = 1 << 2;
    /// The logical-AND of the read permission of the entries used.
    public static final long EPT_READABLE = 1 << 3;
    public static final long EPT_WRITABLE = 1 << 4;
    public static final long EPT_EXECUTABLE = 1 << 5;
    public static final long EPT_USER_EXECUTABLE = 1 << 6;
    /// What the entries allowed: nothing when one was not present.
    public static final long EPT_RIGHTS = EPT_READABLE | EPT_WRITABLE | EPT_EXECUTABLE;
    /// The guest-linear-address field is valid.
    public static final long EPT_LINEAR_VALID = 1 << 7;
    /// The access was to the translation of the linear address; 0: to a guest paging-structure entry.
    public static final long EPT_TRANSLATED = 1 << 8;
    public static final long EPT_USER_LINEAR = 1 << 9;
    public static final long EPT_WRITABLE_LINEAR = 1 << 10;
    public static final long EPT_EXECUTE_DISABLE_LINEAR = 1 << 11;
    public static final long EPT_NMI_UNBLOCKING = 1 << 12;
    /// The access was one to a shadow stack.
    public static final long EPT_SHADOW_STACK = 1 << 13;

    // Control-register accesses: register 3:0, type 5:4, LMSW operand 6, GPR 11:8, LMSW source 31:16
    public static final int CR_MOV_TO = 0;
    public static final int CR_MOV_FROM = 1;
    public static final int CR_CLTS = 2;
    public static final int CR_LMSW = 3;
    public static final long CR_LMSW_MEMORY = 1 << 6;

    // MOV DR: register 2:0, direction 4, GPR 11:8
    public static final long DR_FROM = 1 << 4;

    // I/O instructions: size-1 2:0, flags, port 31:16
    public static final long IO_IN = 1 << 3;
    public static final long IO_STRING = 1 << 4;
    public static final long IO_REP = 1 << 5;
    public static final long IO_IMMEDIATE = 1 << 6;

    // APIC accesses: offset 11:0, type 15:12
    public static final int APIC_LINEAR_READ = 0;
    public static final int APIC_LINEAR_WRITE = 1;
    public static final int APIC_LINEAR_FETCH = 2;
    public static final int APIC_EVENT_DELIVERY = 3;

    // Task switches: selector 15:0, source 31:30
    public static final int TASK_CALL = 0;
    public static final int TASK_IRET = 1;
    public static final int TASK_JMP = 2;
    public static final int TASK_GATE = 3;

    // VM-entry failures due to invalid guest state
    public static final int ENTRY_FAILURE_PDPTE = 2;
    public static final int ENTRY_FAILURE_NMI_INJECTION = 3;
    public static final int ENTRY_FAILURE_LINK_POINTER = 4;

    // Notify window
    public static final long NOTIFY_CONTEXT_INVALID = 1;

    private ExitQualification() {
    }

    /// The control register of a CR access.
    public static int controlRegister(long qualification) {
        return (int) qualification & 15;
    }

    /// The access type of a CR access, a `CR_` constant.
    public static int controlRegisterAccess(long qualification) {
        return ((int) qualification >>> 4) & 3;
    }

    /// The general register of a CR or DR access.
    public static int generalRegister(long qualification) {
        return ((int) qualification >>> 8) & 15;
    }

    /// The 16-bit source of LMSW.
    public static int lmswSource(long qualification) {
        return (int) (qualification >>> 16) & 0xffff;
    }

    /// A CR access as a qualification.
    public static long controlRegisterAccess(int register, int type, int gpr) {
        return register | ((long) type << 4) | ((long) gpr << 8);
    }

    /// The debug register of MOV DR.
    public static int debugRegister(long qualification) {
        return (int) qualification & 7;
    }

    /// What causes a task switch: 0 CALL, 1 IRET, 2 JMP, 3 a task gate in the IDT.
    public static int taskSwitchSource(long qualification) {
        return (int) (qualification >>> 30) & 3;
    }

    /// Bytes per access of an I/O instruction: 1, 2 or 4.
    public static int ioSize(long qualification) {
        return ((int) qualification & 7) + 1;
    }

    /// The port of an I/O instruction.
    public static int ioPort(long qualification) {
        return (int) (qualification >>> 16) & 0xffff;
    }
}
