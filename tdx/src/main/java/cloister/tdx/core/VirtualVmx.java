package cloister.tdx.core;

/// The VMX capabilities that a TD with L2 VMs sees, and what initial controls of an L2 VMCS depend on the TD.
/// [TDX-BASE "TD Partitioning"]
public final class VirtualVmx {
    private static final long BASIC = (1L << 54) | (1L << 55) | (1L << 56);
    private static final long MISC = (1 << 5) | (1 << 6) | (1 << 7) | (1 << 14) | (4 << 16) | (1 << 29) | (1 << 30);
    private static final long EPT_VPID = 1 | (1 << 16) | (1 << 17) | (1 << 22);
    private static final long EPT_SUPERVISOR_SHADOW_STACK = 1 << 23;
    private static final long HLAT_PREFIX_SIZE = 0x3fL << 48;
    private static final int XFAM_PK = 9;
    private static final int XFAM_CET_U = 11;
    private static final int XFAM_CET_S = 12;
    private static final int XFAM_ULI = 14;

    private VirtualVmx() {
    }

    public static void init(PlatformConfig config, Tdcs tdcs) {
        var l2 = config.l2;
        tdcs.u64(Tdcs.VIRT_VMX_BASIC, BASIC);
        tdcs.u64(Tdcs.VIRT_VMX_MISC, MISC);
        tdcs.u64(Tdcs.VIRT_VMX_TRUE_PINBASED_CTLS, allowed(l2.pinbased, 0));
        int procWritable = (VmcsInit.L2_PROCBASED_WRITABLE & ~VmcsInit.PROC_RDPMC_EXITING)
                | (tdcs.hasAttribute(Tdcs.PERFMON) ? VmcsInit.PROC_RDPMC_EXITING : 0);
        tdcs.u64(Tdcs.VIRT_VMX_TRUE_PROCBASED_CTLS, allowed(procbased(l2.procbased, tdcs), procWritable));
        tdcs.u64(Tdcs.VIRT_VMX_PROCBASED_CTLS2,
                allowed(procbased2(l2.procbased2, tdcs), procbased2(VmcsInit.L2_PROCBASED2_WRITABLE, tdcs)));
        tdcs.u64(Tdcs.VIRT_VMX_PROCBASED_CTLS3, l2.procbased3 | VmcsInit.L2_PROCBASED3_WRITABLE);
        tdcs.u64(Tdcs.VIRT_VMX_TRUE_EXIT_CTLS, allowed(l2Exit(l2.exit, tdcs), 0));
        tdcs.u64(Tdcs.VIRT_VMX_TRUE_ENTRY_CTLS, allowed(l2Entry(l2.entry, tdcs), VmcsInit.L2_ENTRY_WRITABLE));
        tdcs.u64(Tdcs.VIRT_VMX_EPT_VPID_CAP, EPT_VPID | (tdcs.xfam(XFAM_CET_S) ? EPT_SUPERVISOR_SHADOW_STACK : 0)
                | (config.vmxEptVpidCap & HLAT_PREFIX_SIZE));
        tdcs.u64(Tdcs.VIRT_VMX_VMFUNC, 0);
        tdcs.u64(Tdcs.VIRT_VMX_CR0_FIXED0, VmcsInit.CR0 & ~VmcsInit.L2_CR0_VARIABLE);
        tdcs.u64(Tdcs.VIRT_VMX_CR0_FIXED1, VmcsInit.CR0 | VmcsInit.L2_CR0_VARIABLE);
        long cr4 = l2Cr4Writable(config, tdcs);
        tdcs.u64(Tdcs.VIRT_VMX_CR4_FIXED0, VmcsInit.CR4 & ~cr4);
        tdcs.u64(Tdcs.VIRT_VMX_CR4_FIXED1, VmcsInit.CR4 | cr4);
    }

    private static long allowed(int init, int writable) {
        return (init & ~writable & 0xffff_ffffL) | ((long) (init | writable) << 32);
    }

    private static int with(int value, int bit, boolean on) {
        return on ? value | bit : value & ~bit;
    }

    static int procbased(int base, Tdcs tdcs) {
        boolean mwait = tdcs.cpuidFlag(Tdcs.MONITOR_MWAIT);
        int value = with(base, VmcsInit.PROC_MWAIT_EXITING, !mwait);
        value = with(value, VmcsInit.PROC_RDPMC_EXITING, !tdcs.hasAttribute(Tdcs.PERFMON));
        return with(value, VmcsInit.PROC_MONITOR_EXITING, !mwait);
    }

    public static int procbased2(int base, Tdcs tdcs) {
        int value = with(base, VmcsInit.PROC2_USER_WAIT_PAUSE, tdcs.cpuidFlag(Tdcs.WAITPKG));
        return with(value, VmcsInit.PROC2_PCONFIG, tdcs.cpuidFlag(Tdcs.PCONFIG));
    }

    private static boolean perfmon(Tdcs tdcs) {
        return tdcs.hasAttribute(Tdcs.PERFMON) || tdcs.debug();
    }

    private static int l2Exit(int base, Tdcs tdcs) {
        return with(base, VmcsInit.EXIT_LOAD_PERF_GLOBAL_CTRL | VmcsInit.EXIT_SAVE_PERF_GLOBAL_CTRL, perfmon(tdcs));
    }

    private static int l2Entry(int base, Tdcs tdcs) {
        int value = with(base, VmcsInit.ENTRY_LOAD_PERF_GLOBAL_CTRL, perfmon(tdcs));
        return entry(value, tdcs);
    }

    public static int exit(int base, Tdcs tdcs) {
        return with(base, VmcsInit.EXIT_SAVE_PERF_GLOBAL_CTRL, perfmon(tdcs));
    }

    public static int entry(int base, Tdcs tdcs) {
        return with(base, VmcsInit.ENTRY_LOAD_PKRS, tdcs.hasAttribute(Tdcs.PKS) || tdcs.debug());
    }

    /// CR4 bits that an L2 VM's owner may change.
    public static long l2Cr4Writable(PlatformConfig config, Tdcs tdcs) {
        long mask = VmcsInit.L2_CR4_WRITABLE & ~config.vmxCr4Fixed0 & config.vmxCr4Fixed1;
        return mask & ~hiddenCr4(tdcs);
    }

    /// CR4 bits of features that the TD lacks: PKE, CET, UINTR, KL, PKS, LASS.
    public static long hiddenCr4(Tdcs tdcs) {
        long mask = 1 << 19;
        mask |= tdcs.xfam(XFAM_PK) ? 0 : 1 << 22;
        mask |= tdcs.xfam(XFAM_CET_U) && tdcs.xfam(XFAM_CET_S) ? 0 : 1 << 23;
        mask |= tdcs.hasAttribute(Tdcs.PKS) ? 0 : 1 << 24;
        mask |= tdcs.xfam(XFAM_ULI) ? 0 : 1 << 25;
        mask |= tdcs.hasAttribute(Tdcs.LASS) ? 0 : 1 << 27;
        return mask;
    }
}
