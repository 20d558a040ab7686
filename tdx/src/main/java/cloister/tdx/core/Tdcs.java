package cloister.tdx.core;

import cloister.memory.PhysicalMemory;
import cloister.spec.tdx.OpState;

/// TDCS, the control structure of a TD, in pages of the TD's KeyID. [TDX-ABI "TDCS"]
///
/// Offsets of fields that have a metadata identifier are those of the metadata tables; the others (locks, hash context,
/// CPUID flags) lie in the gaps.
final class Tdcs extends Structure {
    static final int MIN_PAGES = 6;
    static final int MAX_PAGES = 9;
    static final int MSR_BITMAPS_PAGE = 2;
    static final int SEPT_ROOT_PAGE = 3;
    static final int ZERO_PAGE = 4;
    static final int L2_SEPT_ROOT_PAGE = 6;
    static final int MAX_VCPUS_PER_TD = 576;
    static final int MAX_L2_VMS = 3;

    static final int NUM_VCPUS = 0x0;
    static final int NUM_ASSOC_VCPUS = 0x4;
    static final int OP_STATE = 0x8;
    static final int OP_STATE_LOCK = 0xc;
    static final int NUM_L2_VMS = 0x10;
    static final int ATTRIBUTES = 0x80;
    static final int XFAM = 0x88;
    static final int MAX_VCPUS = 0x90;
    static final int GPAW = 0x94;
    static final int EPTP = 0x98;
    static final int SECURE_EPT_LOCK = 0xa0;
    static final int TSC_OFFSET = 0xa8;
    static final int TSC_MULTIPLIER = 0xb0;
    static final int TSC_FREQUENCY = 0xb8;
    static final int CPUID_FLAGS = 0xba;
    static final int XBUFF_SIZE = 0xdc;
    static final int NOTIFY_ENABLES = 0xe0;
    static final int HP_LOCK_TIMEOUT = 0xe8;
    static final int VM_CTLS = 0xf0;
    static final int SPEC_CTRL_MASK = 0x110;
    static final int CONFIG_FLAGS = 0x118;
    static final int TD_CTLS = 0x120;
    static final int VIRT_MAXPA = 0x128;
    static final int TOPOLOGY_ENUM_CONFIGURED = 0x12c;
    static final int CPUID_VALID = 0x134;
    static final int XBUFF_OFFSETS = 0x190;
    static final int TD_EPOCH = 0x200;
    static final int REFCOUNT = 0x208;
    static final int EPOCH_LOCK = 0x210;
    static final int MRTD = 0x240;
    static final int MRCONFIGID = 0x270;
    static final int MROWNER = 0x2a0;
    static final int MROWNERCONFIG = 0x2d0;
    static final int RTMR = 0x300;
    static final int LAST_TEEINFO_HASH = 0x3c0;
    static final int RTMR_LOCK = 0x3f0;
    static final int LAST_TEEINFO_HASH_VALID = 0x3f2;
    static final int MIG_ENC_KEY = 0x5e0;
    static final int VIRT_VMX_BASIC = 0x700;
    static final int VIRT_VMX_MISC = 0x708;
    static final int VIRT_VMX_CR0_FIXED0 = 0x710;
    static final int VIRT_VMX_CR0_FIXED1 = 0x718;
    static final int VIRT_VMX_CR4_FIXED0 = 0x720;
    static final int VIRT_VMX_CR4_FIXED1 = 0x728;
    static final int VIRT_VMX_PROCBASED_CTLS2 = 0x730;
    static final int VIRT_VMX_EPT_VPID_CAP = 0x738;
    static final int VIRT_VMX_TRUE_PINBASED_CTLS = 0x740;
    static final int VIRT_VMX_TRUE_PROCBASED_CTLS = 0x748;
    static final int VIRT_VMX_TRUE_EXIT_CTLS = 0x750;
    static final int VIRT_VMX_TRUE_ENTRY_CTLS = 0x758;
    static final int VIRT_VMX_VMFUNC = 0x760;
    static final int VIRT_VMX_PROCBASED_CTLS3 = 0x768;
    static final int VIRT_ARCH_CAPABILITIES = 0x778;
    static final int CPUID_VALUES = 0x800;
    static final int SERVTD_HASH = 0xd00;
    static final int SERVTD_NUM = 0xd30;
    static final int SERVTD_BINDINGS_LOCK = 0xd32;
    static final int SERVTD_BINDING = 0xd90;
    /// Within a binding.
    static final int SERVTD_ATTRIBUTES = 8;
    static final int SERVTD_INFO_HASH = 48;
    static final int NUM_MIGS = 0x638;
    static final int MIGSC_LINKS = 0x5000;
    static final int X2APIC_IDS = 0x1100;
    static final int MSR_BITMAPS = 0x2000;

    // Virtual CPUID facts kept for MSR handling and TD entry, one byte each from CPUID_FLAGS.
    static final int MONITOR_MWAIT = 0;
    static final int DCA = 1;
    static final int TSC_DEADLINE = 2;
    static final int TSX = 3;
    static final int WAITPKG = 4;
    static final int TME = 5;
    static final int PCONFIG = 6;
    static final int XFD = 7;
    static final int DDPD = 8;
    static final int LA57 = 9;
    static final int PERFMON_EXT_LEAF = 11;

    // ATTRIBUTES [TDX-BASE "TD Attributes"]
    static final long DEBUG = 1;
    static final long ICSSD = 1L << 16;
    static final long LASS = 1L << 27;
    static final long SEPT_VE_DISABLE = 1L << 28;
    static final long MIGRATABLE = 1L << 29;
    static final long PKS = 1L << 30;
    static final long PERFMON = 1L << 63;

    // CONFIG_FLAGS
    static final long FLEXIBLE_PENDING_VE = 1 << 1;
    static final long NO_RBP_MOD = 1 << 2;
    static final long MAXPA_VIRT = 1 << 3;

    // TD_CTLS
    static final long PENDING_VE_DISABLE = 1;
    static final long ENUM_TOPOLOGY = 1 << 1;
    static final long VIRT_CPUID2 = 1 << 2;

    Tdcs(PhysicalMemory memory, Tdr tdr) {
        super(memory, pagesOf(tdr));
    }

    private static long[] pagesOf(Tdr tdr) {
        var pages = new long[tdr.numTdcx()];
        for (int i = 0; i < pages.length; i++) {
            pages[i] = tdr.tdcxHpa(i);
        }
        return pages;
    }

    OpState opState() {
        return OpState.of(u32(OP_STATE));
    }

    void opState(OpState state) {
        u32(OP_STATE, state.ordinal());
    }

    int numL2Vms() {
        return u16(NUM_L2_VMS);
    }

    long attributes() {
        return u64(ATTRIBUTES);
    }

    boolean hasAttribute(long bit) {
        return (attributes() & bit) != 0;
    }

    boolean debug() {
        return hasAttribute(DEBUG);
    }

    long xfam() {
        return u64(XFAM);
    }

    boolean xfam(int bit) {
        return (xfam() >>> bit & 1) != 0;
    }

    boolean gpaw() {
        return flag(GPAW);
    }

    long eptp() {
        return u64(EPTP);
    }

    /// The level of the tree's root entries: 3 with a 4-level tree, 4 with a 5-level one.
    int rootLevel() {
        return (int) (eptp() >>> 3) & 7;
    }

    boolean cpuidFlag(int flag) {
        return flag(CPUID_FLAGS + flag);
    }

    void cpuidFlag(int flag, boolean value) {
        flag(CPUID_FLAGS + flag, value);
    }

    boolean configFlag(long bit) {
        return (u64(CONFIG_FLAGS) & bit) != 0;
    }

    boolean tdCtl(long bit) {
        return (u64(TD_CTLS) & bit) != 0;
    }

    int virtMaxpa() {
        return u8(VIRT_MAXPA);
    }

    long epoch() {
        return u64(TD_EPOCH);
    }

    int refcount(long epoch) {
        return u16(REFCOUNT + 2 * (int) (epoch & 1));
    }

    void addRefcount(long epoch, int delta) {
        int offset = REFCOUNT + 2 * (int) (epoch & 1);
        u16(offset, u16(offset) + delta);
    }

    /// Whether no processor can hold a translation from before `bepoch`. [TDX-BASE "TLB Tracking"]
    boolean tracked(long bepoch) {
        if (bepoch < 0) {
            return false; // bit 63: a migration epoch
        }
        long previous = epoch() - 1;
        return bepoch == previous && refcount(bepoch) == 0 || Long.compareUnsigned(bepoch, previous) < 0;
    }

    long vmCtls(int vm) {
        return u64(VM_CTLS + 8 * vm);
    }

    /// EPTP of the Secure EPT of VM `vm` (0: L1), without KeyID.
    long septp(Tdr tdr, int vm) {
        return vm == 0 ? eptp() : eptp() & 0xfff | PhysicalMemory.pa(tdr.tdcxHpa(L2_SEPT_ROOT_PAGE + vm - 1));
    }
}
