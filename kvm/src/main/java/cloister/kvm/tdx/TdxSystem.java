package cloister.kvm.tdx;

import cloister.kvm.KvmException;
import cloister.kvm.host.FrameAllocator;
import cloister.kvm.host.Host;
import cloister.kvm.host.HostCpu;
import cloister.kvm.host.Mutex;
import cloister.kvm.vcpu.SeamCounters;
import cloister.memory.PhysicalMemory;
import cloister.spec.kvm.CpuidEntry;
import cloister.spec.kvm.Errno;
import cloister.spec.tdx.SeamRegs;
import cloister.spec.x86.Msr;
import java.util.ArrayList;
import java.util.BitSet;
import java.util.LinkedHashSet;
import java.util.List;

/// The TDX module as the host kernel brought it up: global metadata, TDMRs over all free memory, the pool of KeyIDs. [LINUX
/// init_tdx_module]
public final class TdxSystem {
    private static final long GIB = 1L << 30;
    private static final long NO_SUBLEAF = 0xffff_ffffL;
    private static final int TDMR_INFO_SIZE = 64;
    private static final int TDMR_INFO_ALIGNMENT = 512;
    private static final int RESERVED_AREA_SIZE = 16;
    private final Host host;
    private final KvmSeam seam;
    private final Mutex lock;
    private final SeamCounters counters = new SeamCounters();
    private final SeamRegs regs = new SeamRegs();
    private final int globalKeyId;
    private final int keyIds;
    private final BitSet initialized = new BitSet();
    private final BitSet usedKeyIds = new BitSet();
    private final List<CpuidEntry> cpuidConfig = new ArrayList<>();
    private long attributesFixed0;
    private long attributesFixed1;
    private long xfamFixed0;
    private long xfamFixed1;
    private int tdcsPages;
    private int tdcxPages;
    private int maxVcpus;
    /// The vCPUs that may have state on a processor, by its index. [LINUX associated_tdvcpus]
    private final List<LinkedHashSet<TdVcpu>> associated = new ArrayList<>();

    /// Brings the module up.
    ///
    /// @throws TdxFailure when a step fails, or there is no module
    public TdxSystem(Host host) {
        this.host = host;
        for (int i = 0; i < host.cpus().all().size(); i++) {
            associated.add(new LinkedHashSet<>());
        }
        this.seam = new KvmSeam(host, counters);
        this.lock = new Mutex(host.lockdep(), host.lockdep().sleeping("tdx_lock"), "");
        long partitioning = host.cpus().here().lp().rdmsr(Msr.IA32_MKTME_KEYID_PARTITIONING);
        this.globalKeyId = (int) partitioning + 1;
        this.keyIds = (int) (partitioning >>> 32);
        if (keyIds < 2) {
            throw new TdxFailure("IA32_MKTME_KEYID_PARTITIONING: fewer than two private KeyIDs", partitioning);
        }
        check("TDH.SYS.INIT", seam.sysInit());
        for (var cpu : host.cpus().all()) {
            if (cpu.isOnline()) {
                cpuOnline(cpu);
            }
        }
        readMetadata();
        configure();
    }

    /// tdx_lock: one TD at a time takes a KeyID or gives one back, because the module's lock on its table of KeyIDs does not wait.
    Mutex lock() {
        return lock;
    }

    /// A processor joins: the module must know it before it executes any other SEAMCALL. [LINUX tdx_cpu_enable]
    public void cpuOnline(HostCpu cpu) {
        if (!initialized.get(cpu.index())) {
            check("TDH.SYS.LP.INIT on " + cpu, host.cpus().call(cpu, seam::sysLpInit));
            initialized.set(cpu.index());
        }
    }

    /// A processor leaves: no vCPU of a TD keeps state there, and no dirty line of private memory. [LINUX
    /// tdx_disable_virtualization_cpu, tdx_offline_cpu]
    public void cpuOffline(HostCpu cpu) {
        for (var vcpu : List.copyOf(associated.get(cpu.index()))) {
            vcpu.flushHere(cpu);
        }
        cpu.lp().wbinvd();
    }

    /// A KeyID can only be given back when every package writes its caches back, so no package may be without a processor while
    /// one is in use. [LINUX tdx_offline_cpu]
    ///
    /// @throws KvmException EBUSY
    public void requireRemovable(HostCpu cpu) {
        boolean last = host.cpus().all().stream()
                .noneMatch(other -> other != cpu && other.isOnline() && other.packageId() == cpu.packageId());
        if (last && !usedKeyIds.isEmpty()) {
            throw new KvmException(Errno.EBUSY, cpu + " is the last of package " + cpu.packageId() + ", and there are TDs");
        }
    }

    /// Whether every package has a processor that can configure a key.
    boolean everyPackageIsOnline() {
        return host.cpus().all().stream().allMatch(cpu -> host.cpus().all().stream()
                .anyMatch(other -> other.isOnline() && other.packageId() == cpu.packageId()));
    }

    /// `vcpu` may have state on `cpu` from now on.
    void associate(TdVcpu vcpu, HostCpu cpu) {
        associated.get(cpu.index()).add(vcpu);
    }

    /// It has none there any more.
    void disassociate(TdVcpu vcpu, HostCpu cpu) {
        associated.get(cpu.index()).remove(vcpu);
    }

    private static void check(String what, long status) {
        if (status != 0) {
            throw new TdxFailure(what, status);
        }
    }

    private long read(long field) {
        check("TDH.SYS.RD of 0x" + Long.toHexString(field), seam.sysRd(field, regs));
        return regs.get(SeamRegs.R8);
    }

    private void readMetadata() {
        long features = read(Metadata.TDX_FEATURES0);
        if ((features & Metadata.FEATURE_NO_RBP_MOD) == 0) {
            throw new TdxFailure("TDX_FEATURES0 lacks NO_RBP_MOD", features);
        }
        if ((features & Metadata.FEATURE_TOPOLOGY_ENUM) == 0) {
            throw new TdxFailure("TDX_FEATURES0 lacks TOPOLOGY_ENUM", features);
        }
        attributesFixed0 = read(Metadata.ATTRIBUTES_FIXED0);
        attributesFixed1 = read(Metadata.ATTRIBUTES_FIXED1);
        xfamFixed0 = read(Metadata.XFAM_FIXED0);
        xfamFixed1 = read(Metadata.XFAM_FIXED1);
        tdcsPages = (int) (read(Metadata.TDCS_BASE_SIZE) / PhysicalMemory.FRAME_SIZE);
        tdcxPages = (int) (read(Metadata.TDVPS_BASE_SIZE) / PhysicalMemory.FRAME_SIZE) - 1;
        maxVcpus = (int) read(Metadata.MAX_VCPUS_PER_TD);
        if (maxVcpus < host.cpus().all().size()) {
            throw new TdxFailure("MAX_VCPUS_PER_TD is less than the processors", maxVcpus); // [LINUX __tdx_hardware_setup]
        }
        int configs = (int) read(Metadata.NUM_CPUID_CONFIG);
        for (int i = 0; i < configs; i++) {
            long leaf = read(Metadata.CPUID_CONFIG_LEAVES + i);
            long low = read(Metadata.CPUID_CONFIG_VALUES + 2 * i);
            long high = read(Metadata.CPUID_CONFIG_VALUES + 2 * i + 1);
            boolean hasSubLeaf = leaf >>> 32 != NO_SUBLEAF;
            cpuidConfig.add(new CpuidEntry((int) leaf, hasSubLeaf ? (int) (leaf >>> 32) : 0,
                    hasSubLeaf ? CpuidEntry.SIGNIFICANT_INDEX : 0, (int) low,
                    (int) (low >>> 32), (int) high, (int) (high >>> 32)));
        }
    }

    /// One TDMR over all memory that the page allocator may hand out; everything else in it is reserved.
    private void configure() {
        FrameAllocator frames = host.frames();
        if (read(Metadata.MAX_TDMRS) == 0) {
            throw new TdxFailure("MAX_TDMRS", 0);
        }
        long free = frames.startPa();
        long base = free & -GIB;
        long end = (frames.endPa() + GIB - 1) & -GIB;
        long size = end - base;
        long[] pamtSizes = {pamtSize(size, 12, Metadata.PAMT_4K_ENTRY_SIZE), pamtSize(size, 21, Metadata.PAMT_2M_ENTRY_SIZE),
                pamtSize(size, 30, Metadata.PAMT_1G_ENTRY_SIZE)};
        long pamtBytes = pamtSizes[0] + pamtSizes[1] + pamtSizes[2];
        long pamt = frames.allocateContiguous(pamtBytes, PhysicalMemory.FRAME_SIZE);
        int maxReserved = (int) read(Metadata.MAX_RESERVED_PER_TDMR);
        int infoSize = (TDMR_INFO_SIZE + RESERVED_AREA_SIZE * maxReserved + TDMR_INFO_ALIGNMENT - 1) & -TDMR_INFO_ALIGNMENT;
        long info = frames.allocateContiguous(infoSize, PhysicalMemory.FRAME_SIZE);
        long[] head = {base, size, pamt + pamtSizes[0] + pamtSizes[1], pamtSizes[2], pamt + pamtSizes[0], pamtSizes[1],
                pamt, pamtSizes[0]};
        var memory = host.memory();
        for (int i = 0; i < head.length; i++) {
            memory.write(info + 8L * i, 8, head[i]);
        }
        long at = info + TDMR_INFO_SIZE;
        for (long[] hole : new long[][] {{base, free}, {pamt, pamt + pamtBytes}, {frames.endPa(), end}}) {
            if (hole[0] < hole[1]) {
                memory.write(at, 8, hole[0] - base);
                memory.write(at + 8, 8, hole[1] - hole[0]);
                at += RESERVED_AREA_SIZE;
            }
        }
        long array = frames.allocate();
        memory.write(array, 8, info);
        check("TDH.SYS.CONFIG", seam.sysConfig(array, 1, globalKeyId));
        for (var cpu : host.cpus().all()) {
            if (cpu.isOnline()) {
                host.cpus().call(cpu, here -> {
                    here.lp().wbinvd();
                    return 0;
                });
            }
        }
        for (var cpu : host.cpus().onePerPackage()) {
            check("TDH.SYS.KEY.CONFIG on package " + cpu.packageId(), host.cpus().call(cpu, seam::sysKeyConfig));
        }
        long next;
        do {
            check("TDH.SYS.TDMR.INIT", seam.sysTdmrInit(base, regs));
            next = regs.get(SeamRegs.RDX);
        } while (next < end);
        frames.free(array);
    }

    private long pamtSize(long tdmrSize, int pageShift, long entrySizeField) {
        return ((tdmrSize >>> pageShift) * read(entrySizeField) + PhysicalMemory.FRAME_SIZE - 1) & -PhysicalMemory.FRAME_SIZE;
    }

    /// Takes a KeyID for a TD.
    ///
    /// @return the KeyID, or -1 when all are in use
    public int allocateKeyId() {
        int i = usedKeyIds.nextClearBit(0);
        if (i >= keyIds - 1) {
            return -1;
        }
        usedKeyIds.set(i);
        return globalKeyId + 1 + i;
    }

    /// Gives a KeyID back.
    public void freeKeyId(int keyId) {
        usedKeyIds.clear(keyId - globalKeyId - 1);
    }

    /// The KeyID of the module's own structures.
    public int globalKeyId() {
        return globalKeyId;
    }

    /// TD attributes that may be 1.
    public long attributesFixed0() {
        return attributesFixed0;
    }

    /// TD attributes that must be 1.
    public long attributesFixed1() {
        return attributesFixed1;
    }

    /// XFAM bits that may be 1.
    public long xfamFixed0() {
        return xfamFixed0;
    }

    /// XFAM bits that must be 1.
    public long xfamFixed1() {
        return xfamFixed1;
    }

    /// TDCS pages of a TD.
    public int tdcsPages() {
        return tdcsPages;
    }

    /// TDCX pages of a vCPU, besides the TDVPR.
    public int tdcxPages() {
        return tdcxPages;
    }

    /// The most vCPUs that a TD may have.
    public int maxVcpus() {
        return maxVcpus;
    }

    /// The configurable CPUID leaves in the module's order, as the module reports them.
    public List<CpuidEntry> cpuidConfig() {
        return cpuidConfig;
    }
}
