package cloister.platform;

import cloister.cpu.CachedTranslation;
import cloister.cpu.LogicalProcessor;
import cloister.cpu.MixedType;
import cloister.cpu.PlatformObserver;
import cloister.cpu.firmware.FirmwareAccess;
import cloister.cpu.sys.Cpuid;
import cloister.cpu.sys.GuestSampler;
import cloister.cpu.vmx.VmcsRegions;
import cloister.memory.HostMemory;
import cloister.memory.PhysicalMemory;
import cloister.sim.Entropy;
import cloister.sim.Persistent;
import cloister.sim.Scheduler;
import cloister.sim.StateSink;
import cloister.sim.VirtualClock;
import cloister.spec.x86.Msr;
import cloister.tdx.TdxModule;
import cloister.tdx.inspect.ModuleSnapshot;
import cloister.tdx.port.PlatformInfo;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;

/// A machine without software: packages of logical processors, memory, time, and the TDX module loaded into SEAM.
///
/// Memory from address 0: the first mebibyte is not convertible (CMR), the last 32 MiB are the SEAM range, all between is for
/// the host and its trust domains. KeyIDs: 64, private to the TDX module from [#FIRST_PRIVATE_KEY_ID].
public final class Platform implements AutoCloseable, Persistent {
    /// TSC ticks per second.
    public static final long TSC_HZ = (long) Cpuid.CRYSTAL_HZ * Cpuid.TSC_PER_CRYSTAL;
    /// The lowest KeyID that is private to the TDX module.
    public static final int FIRST_PRIVATE_KEY_ID = 32;
    private static final long FREE_START = 1L << 20;
    private static final long SEAM_RANGE = 32L << 20;
    private static final long SEAMRR_CONFIGURED = 1L << 3;
    private static final long SEAMRR_ENABLED_LOCKED = 3L << 10;
    private static final long PHYSICAL_LIMIT = 1L << (Cpuid.PHYSICAL_ADDRESS_BITS - PhysicalMemory.KEY_ID_BITS);

    private final PhysicalMemory memory;
    private final HostMemory hostMemory;
    private final VirtualClock clock;
    private final Scheduler scheduler;
    private final Entropy entropy;
    private final List<LogicalProcessor> processors;
    private final long seamBase;
    private final TdxModule tdxModule;
    private final VmcsRegions regions;

    /// Powers a platform on, TDX module loaded and not initialised.
    public Platform(PlatformOptions options) {
        long size = (options.memoryBytes() + PhysicalMemory.FRAME_SIZE - 1) & -PhysicalMemory.FRAME_SIZE;
        memory = new PhysicalMemory(size, FIRST_PRIVATE_KEY_ID);
        hostMemory = new HostMemory(memory);
        clock = new VirtualClock(TSC_HZ);
        scheduler = new Scheduler(clock, options.strategy(), options.pace());
        entropy = new Entropy(options.seed());
        seamBase = (size - SEAM_RANGE) & -SEAM_RANGE;
        var cpuid = new Cpuid(options.logicalProcessors(), options.packages(), options.selfSnoop());
        regions = new VmcsRegions(memory);
        var list = new ArrayList<LogicalProcessor>();
        for (int i = 0; i < options.logicalProcessors(); i++) {
            list.add(new LogicalProcessor(i, memory, scheduler, entropy.stream("lp" + i), cpuid, regions));
        }
        processors = List.copyOf(list);
        tdxModule = loadTdxModule(options.packages());
    }

    private TdxModule loadTdxModule(int packages) {
        var cmr = new PlatformInfo.Cmr(FREE_START, seamBase - FREE_START);
        var info = new PlatformInfo(processors.size(), packages, List.of(cmr),
                Collections.nCopies(packages, Cpuid.FAMILY_MODEL_STEPPING));
        var module = new TdxModule(memory, info);
        var seal = new SeamSeal(entropy.stream("seam report key"));
        for (var lp : processors) {
            lp.presetMsr(FirmwareAccess.SEAM, Msr.IA32_SEAMRR_BASE, seamBase | SEAMRR_CONFIGURED);
            lp.presetMsr(FirmwareAccess.SEAM, Msr.IA32_SEAMRR_MASK, (PHYSICAL_LIMIT - SEAM_RANGE) | SEAMRR_ENABLED_LOCKED);
            var port = new SeamProcessor(lp, scheduler, entropy.stream("seam lp" + lp.index()), seal);
            lp.installSeam(FirmwareAccess.SEAM, (caller, regs) -> module.seamcall(port, regs));
        }
        return module;
    }

    /// What the TDX module knows now, for people: no software on the platform could see it. Called with the scheduler's baton, or
    /// while nothing runs.
    public ModuleSnapshot inspectTdxModule() {
        return tdxModule.inspect();
    }

    @Override public String stateName() {
        return "platform";
    }

    /// Called like [#inspectTdxModule], at a quiescent point: no host thread is within an instruction. The TDX module keeps its state in
    /// memory, but for its locks and what it keeps of each processor, which its snapshot shows.
    @Override public void describe(StateSink out) {
        out.part(clock);
        out.part(memory);
        out.part(regions);
        processors.forEach(out::part);
        var snapshot = tdxModule.inspect().toString();
        out.words("tdxModule", snapshot.length(), snapshot.hashCode());
    }

    /// The usable translations of every processor, each with its memory type, by processor. Called like [#inspectTdxModule].
    public List<List<CachedTranslation>> translations() {
        return processors.stream().map(lp -> lp.translations(FirmwareAccess.SEAM)).toList();
    }

    /// The usable translations of one processor that were made under one VPID and one EPT pointer (0: without EPT).
    public List<CachedTranslation> translations(int processor, int vpid, long eptp) {
        return processors.get(processor).translations(FirmwareAccess.SEAM, vpid, eptp);
    }

    /// The frames that are used with and without caching at a time. Called like [#inspectTdxModule].
    public List<MixedType> mixedTypes() {
        return MixedType.find(translations().stream().flatMap(List::stream).toList());
    }

    /// The physical memory.
    public PhysicalMemory memory() {
        return memory;
    }

    /// The physical memory as host software sees it.
    public HostMemory hostMemory() {
        return hostMemory;
    }

    /// The only time.
    public VirtualClock clock() {
        return clock;
    }

    /// Runs the host threads.
    public Scheduler scheduler() {
        return scheduler;
    }

    /// The logical processors by index.
    public List<LogicalProcessor> processors() {
        return processors;
    }

    /// First byte of the memory that the host may use.
    public long freeStartPa() {
        return FREE_START;
    }

    /// End of that memory.
    public long freeEndPa() {
        return seamBase;
    }

    /// Instructions that guests have retired on all logical processors.
    public long retired() {
        long sum = 0;
        for (var lp : processors) {
            sum += lp.retired();
        }
        return sum;
    }

    /// Sets the observer of all logical processors; null for none.
    public void observer(PlatformObserver observer) {
        processors.forEach(lp -> lp.observer(FirmwareAccess.SEAM, observer));
    }

    /// Tells `sampler` where the guest on each processor is, as [LogicalProcessor#sample] does.
    public void sample(long period, GuestSampler sampler) {
        processors.forEach(lp -> lp.sample(FirmwareAccess.SEAM, period, sampler));
    }

    /// Releases the memory.
    @Override public void close() {
        memory.close();
    }
}
