package cloister.tdx.core;

import cloister.memory.PhysicalMemory;
import cloister.spec.tdx.OpState;
import cloister.spec.tdx.TdParams;

/// TDCS, the control structure of a TD, in pages of the TD's KeyID. [TDX-ABI "TDCS"]
///
/// Offsets of fields that have a metadata identifier are those of the metadata tables; the others (locks, hash context,
/// CPUID flags) lie in the gaps.
public final class Tdcs extends Structure {
    public static final int MIN_PAGES = 6;
    public static final int MAX_PAGES = 9;
    public static final int MSR_BITMAPS_PAGE = 2;
    public static final int SEPT_ROOT_PAGE = 3;
    static final int ZERO_PAGE = 4;
    private static final int L2_SEPT_ROOT_PAGE = 6;
    public static final int MAX_VCPUS_PER_TD = 576;
    public static final int MAX_L2_VMS = 3;
    public static final int RTMRS = 4;

    public static final int NUM_VCPUS = 0x0;
    public static final int NUM_ASSOC_VCPUS = 0x4;
    public static final int OP_STATE = 0x8;
    public static final int OP_STATE_LOCK = 0xc;
    public static final int NUM_L2_VMS = 0x10;
    public static final int ATTRIBUTES = 0x80;
    public static final int XFAM = 0x88;
    public static final int MAX_VCPUS = 0x90;
    public static final int GPAW = 0x94;
    public static final int EPTP = 0x98;
    public static final int SECURE_EPT_LOCK = 0xa0;
    public static final int TSC_OFFSET = 0xa8;
    public static final int TSC_MULTIPLIER = 0xb0;
    public static final int TSC_FREQUENCY = 0xb8;
    private static final int CPUID_FLAGS = 0xba;
    public static final int XBUFF_SIZE = 0xdc;
    public static final int NOTIFY_ENABLES = 0xe0;
    public static final int HP_LOCK_TIMEOUT = 0xe8;
    public static final int VM_CTLS = 0xf0;
    static final int SPEC_CTRL_MASK = 0x110;
    public static final int CONFIG_FLAGS = 0x118;
    public static final int TD_CTLS = 0x120;
    static final int VIRT_MAXPA = 0x128;
    public static final int TOPOLOGY_ENUM_CONFIGURED = 0x12c;
    static final int CPUID_VALID = 0x134;
    public static final int XBUFF_OFFSETS = 0x190;
    public static final int TD_EPOCH = 0x200;
    public static final int REFCOUNT = 0x208;
    public static final int EPOCH_LOCK = 0x210;
    public static final int MRTD = 0x240;
    public static final int MRCONFIGID = 0x270;
    static final int MROWNER = 0x2a0;
    static final int MROWNERCONFIG = 0x2d0;
    public static final int RTMR = 0x300;
    static final int LAST_TEEINFO_HASH = 0x3c0;
    public static final int RTMR_LOCK = 0x3f0;
    public static final int LAST_TEEINFO_HASH_VALID = 0x3f2;
    public static final int MIG_DEC_KEY_SET = 0x580;
    public static final int MIG_EPOCH = 0x58c;
    public static final int TOTAL_MB_COUNT = 0x598;
    public static final int MIG_DEC_KEY = 0x5a0;
    public static final int MIG_DEC_WORKING_KEY = 0x5c0;
    public static final int MIG_ENC_KEY = 0x5e0;
    public static final int MIG_ENC_WORKING_KEY = 0x600;
    public static final int MIG_VERSION = 0x620;
    public static final int MIG_WORKING_VERSION = 0x622;
    public static final int MIG_COUNT = 0x630;
    public static final int NUM_MIGS = 0x638;
    public static final int PRE_IMPORT_UUID = 0x640;
    public static final int MIG_LOCK = 0x660;
    public static final int VIRT_VMX_BASIC = 0x700;
    public static final int VIRT_VMX_MISC = 0x708;
    public static final int VIRT_VMX_CR0_FIXED0 = 0x710;
    public static final int VIRT_VMX_CR0_FIXED1 = 0x718;
    public static final int VIRT_VMX_CR4_FIXED0 = 0x720;
    public static final int VIRT_VMX_CR4_FIXED1 = 0x728;
    public static final int VIRT_VMX_PROCBASED_CTLS2 = 0x730;
    public static final int VIRT_VMX_EPT_VPID_CAP = 0x738;
    public static final int VIRT_VMX_TRUE_PINBASED_CTLS = 0x740;
    public static final int VIRT_VMX_TRUE_PROCBASED_CTLS = 0x748;
    public static final int VIRT_VMX_TRUE_EXIT_CTLS = 0x750;
    public static final int VIRT_VMX_TRUE_ENTRY_CTLS = 0x758;
    public static final int VIRT_VMX_VMFUNC = 0x760;
    public static final int VIRT_VMX_PROCBASED_CTLS3 = 0x768;
    public static final int VIRT_ARCH_CAPABILITIES = 0x778;
    public static final int CPUID_VALUES = 0x800;
    public static final int SERVTD_HASH = 0xd00;
    public static final int SERVTD_NUM = 0xd30;
    public static final int SERVTD_BINDINGS_LOCK = 0xd32;
    static final int SERVTD_BINDING = 0xd90;
    public static final int MIGSC_LINKS = 0x5000;
    public static final int X2APIC_IDS = 0x1100;
    public static final int MSR_BITMAPS = 0x2000;

    // Virtual CPUID facts kept for MSR handling and TD entry, one byte each from CPUID_FLAGS.
    public static final int MONITOR_MWAIT = 0;
    public static final int DCA = 1;
    public static final int TSC_DEADLINE = 2;
    public static final int TSX = 3;
    public static final int WAITPKG = 4;
    public static final int TME = 5;
    public static final int PCONFIG = 6;
    public static final int XFD = 7;
    public static final int DDPD = 8;
    static final int LA57 = 9;
    static final int PERFMON_EXT_LEAF = 11;

    // ATTRIBUTES [TDX-BASE "TD Attributes"]
    public static final long DEBUG = 1;
    public static final long ICSSD = 1L << 16;
    public static final long LASS = 1L << 27;
    public static final long SEPT_VE_DISABLE = TdParams.ATTRIBUTE_SEPT_VE_DISABLE;
    public static final long MIGRATABLE = 1L << 29;
    public static final long PKS = 1L << 30;
    public static final long PERFMON = 1L << 63;

    // CONFIG_FLAGS
    public static final long FLEXIBLE_PENDING_VE = 1 << 1;
    public static final long NO_RBP_MOD = 1 << 2;
    public static final long MAXPA_VIRT = 1 << 3;

    // TD_CTLS
    public static final long PENDING_VE_DISABLE = 1;
    public static final long ENUM_TOPOLOGY = 1 << 1;
    public static final long VIRT_CPUID2 = 1 << 2;

    public Tdcs(PhysicalMemory memory, Tdr tdr) {
        super(memory, pagesOf(tdr));
    }

    private static long[] pagesOf(Tdr tdr) {
        var pages = new long[tdr.numTdcx()];
        for (int i = 0; i < pages.length; i++) {
            pages[i] = tdr.tdcxHpa(i);
        }
        return pages;
    }

    public OpState opState() {
        return OpState.of(u32(OP_STATE));
    }

    public void opState(OpState state) {
        u32(OP_STATE, state.ordinal());
    }

    public int numL2Vms() {
        return u16(NUM_L2_VMS);
    }

    public long attributes() {
        return u64(ATTRIBUTES);
    }

    public boolean hasAttribute(long bit) {
        return (attributes() & bit) != 0;
    }

    public boolean debug() {
        return hasAttribute(DEBUG);
    }

    public long xfam() {
        return u64(XFAM);
    }

    public boolean xfam(int bit) {
        return ((xfam() >>> bit) & 1) != 0;
    }

    public boolean gpaw() {
        return flag(GPAW);
    }

    public long eptp() {
        return u64(EPTP);
    }

    /// The level of the tree's root entries: 3 with a 4-level tree, 4 with a 5-level one.
    public int rootLevel() {
        return (int) (eptp() >>> 3) & 7;
    }

    public boolean cpuidFlag(int flag) {
        return flag(CPUID_FLAGS + flag);
    }

    public void cpuidFlag(int flag, boolean value) {
        flag(CPUID_FLAGS + flag, value);
    }

    public boolean configFlag(long bit) {
        return (u64(CONFIG_FLAGS) & bit) != 0;
    }

    public boolean tdCtl(long bit) {
        return (u64(TD_CTLS) & bit) != 0;
    }

    public int virtMaxpa() {
        return u8(VIRT_MAXPA);
    }

    public long epoch() {
        return u64(TD_EPOCH);
    }

    public int refcount(long epoch) {
        return u16(REFCOUNT + 2 * (int) (epoch & 1));
    }

    public void addRefcount(long epoch, int delta) {
        int offset = REFCOUNT + 2 * (int) (epoch & 1);
        u16(offset, u16(offset) + delta);
    }

    /// Whether no processor can hold a translation from before `bepoch`. [TDX-BASE "TLB Tracking"]
    boolean tracked(long bepoch) {
        if (bepoch < 0) {
            return false; // bit 63: a migration epoch
        }
        long previous = epoch() - 1;
        return (bepoch == previous && refcount(bepoch) == 0) || Long.compareUnsigned(bepoch, previous) < 0;
    }

    public long vmCtls(int vm) {
        return u64(VM_CTLS + 8 * vm);
    }

    /// EPTP of the Secure EPT of VM `vm` (0: L1), without KeyID.
    public long septp(Tdr tdr, int vm) {
        return vm == 0 ? eptp() : (eptp() & 0xfff) | PhysicalMemory.pa(tdr.tdcxHpa(L2_SEPT_ROOT_PAGE + vm - 1));
    }
}
