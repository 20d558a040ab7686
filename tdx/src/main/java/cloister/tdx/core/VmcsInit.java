package cloister.tdx.core;

/// Initial values, variable bits and unknown bits of VMCS control fields of a TD and of an L2 VM. [TDX-ABI "TD VMCS"]
public final class VmcsInit {
    static final int PINBASED = 0x0000_0029;
    static final int PINBASED_VARIABLE = 0x0000_0080;
    static final int PINBASED_UNKNOWN = 0xffff_ff16;
    static final int PROCBASED = 0x9122_0088;
    static final int PROCBASED_VARIABLE = 0x2040_0c00;
    static final int PROCBASED_UNKNOWN = 0x0404_6173;
    static final int PROCBASED2 = 0x133c_b3fa;
    static final int PROCBASED2_VARIABLE = 0xcc00_0400;
    static final long PROCBASED3_VARIABLE = 0xa0;
    public static final int EXIT = 0x1f3c_9204;
    static final int EXIT_VARIABLE = 0x4000_0000;
    static final int EXIT_UNKNOWN = 0x0003_6dfb;
    public static final int ENTRY = 0x003e_e004;
    static final int ENTRY_VARIABLE = 0x0040_0200;
    static final int ENTRY_UNKNOWN = 0xff80_11fb;
    public static final long CR0 = 0x21;
    public static final long CR4 = 0x2040;

    static final int L2_PINBASED_VARIABLE = 0;
    static final int L2_PROCBASED_VARIABLE = 0x68d9_9e04;
    static final int L2_PROCBASED_WRITABLE = 0x48d9_9a04;
    static final int L2_PROCBASED2 = 0x1338_b3fa;
    static final int L2_PROCBASED2_VARIABLE = 0xcc51_3e0c;
    static final int L2_PROCBASED2_WRITABLE = 0x0c51_3e0c;
    static final long L2_PROCBASED3_VARIABLE = 0xae;
    static final long L2_PROCBASED3_WRITABLE = 0x0e;
    static final int L2_ENTRY_WRITABLE = 0x200;
    static final long L2_CR0_VARIABLE = 0x8005_001fL;
    static final long L2_CR4_WRITABLE = 0x1bff_1fbfL;

    // Bits of controls that depend on the TD.
    static final int EXIT_LOAD_PERF_GLOBAL_CTRL = 1 << 12;
    static final int EXIT_SAVE_PERF_GLOBAL_CTRL = 1 << 30;
    static final int ENTRY_LOAD_PERF_GLOBAL_CTRL = 1 << 13;
    static final int ENTRY_LOAD_PKRS = 1 << 22;
    static final int PROC_MWAIT_EXITING = 1 << 10;
    static final int PROC_RDPMC_EXITING = 1 << 11;
    public static final int PROC_NMI_WINDOW_EXITING = 1 << 22;
    public static final int PROC_MONITOR_TRAP_FLAG = 1 << 27;
    static final int PROC_MONITOR_EXITING = 1 << 29;
    static final int PROC2_USER_WAIT_PAUSE = 1 << 26;
    static final int PROC2_PCONFIG = 1 << 27;
    static final int PROC2_ENCLV_EXITING = 1 << 28;
    static final int PROC2_PML = 1 << 17;
    static final long PROC3_GPAW = 1 << 5;
    static final long PROC3_VIRT_SPEC_CTRL = 1 << 7;
    static final int PIN_POSTED_INTERRUPTS = 1 << 7;

    /// The highest posted-interrupt notification vector that is not one: the field's initial value.
    public static final int NO_NOTIFICATION_VECTOR = 0xffff;

    public static final long CR0_PE = 1;
    public static final long CR0_NE = 1 << 5;
    public static final long CR0_PG = 1L << 31;
    public static final long CR0_PE_PG = CR0_PE | CR0_PG;
    /// CR0 bits that a TD does not own: NE, NW, CD and the reserved ones.
    public static final long CR0_HIDDEN = CR0_NE | (3L << 29) | (-1L << 32) | (0x3ffL << 19) | (1 << 17) | (0x3ff << 6);
    static final long CR4_MCE = 1 << 6;
    public static final long CR4_VMXE = 1 << 13;
    /// CR4 bits that no TD owns: MCE, VMXE, SMXE, 15, 26, 31:29, 63:33.
    static final long CR4_HIDDEN = CR4_MCE | CR4_VMXE | (1 << 14) | (1 << 15) | (1 << 26) | (7L << 29) | (-1L << 33);

    private VmcsInit() {
    }
}
