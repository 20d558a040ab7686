package cloister.kvm.dev;

import cloister.cpu.HostFault;
import cloister.kvm.HostEnvironment;
import cloister.kvm.Kvm;
import cloister.kvm.KvmException;
import cloister.kvm.KvmParameters;
import cloister.kvm.KvmStats;
import cloister.kvm.KvmVm;
import cloister.kvm.UserMemory;
import cloister.kvm.host.CpuHotplug;
import cloister.kvm.host.Host;
import cloister.kvm.host.HostCpu;
import cloister.kvm.mmu.MmioParameter;
import cloister.kvm.mmu.MmuModule;
import cloister.kvm.mmu.MmuParameters;
import cloister.kvm.mmu.NxRecoveryPace;
import cloister.kvm.mmu.SpteMasks;
import cloister.kvm.tdx.TdVm;
import cloister.kvm.tdx.TdxFailure;
import cloister.kvm.tdx.TdxSystem;
import cloister.kvm.vcpu.GuestMsrs;
import cloister.kvm.vcpu.SupportedCpuid;
import cloister.kvm.vcpu.Extensions;
import cloister.kvm.vcpu.Vm;
import cloister.kvm.vcpu.VmList;
import cloister.kvm.vmx.VmxVm;
import cloister.spec.kvm.CpuidEntry;
import cloister.spec.kvm.Errno;
import cloister.spec.kvm.HostRegister;
import cloister.spec.kvm.KvmCap;
import cloister.spec.kvm.VmType;
import cloister.spec.vmx.Ept;
import cloister.spec.x86.Msr;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.function.Function;
import java.util.function.ToLongFunction;

/// The loaded module: /dev/kvm.
public final class DevKvm implements Kvm, CpuHotplug {
    private static final int ADDRESS_SIZES = 0x8000_0008;
    /// CPUID.1 EDX.
    private static final int SELF_SNOOP = 1 << 27;
    private final Host host;
    private final MmuModule mmuModule;
    private TdxSystem tdx;
    private final Extensions extensions;
    private final VmList vms;

    /// Loads KVM on a machine: enables virtualisation on every processor; the TDX module, if there is one, is brought up by
    /// the first TD.
    public static Kvm open(HostEnvironment host) {
        return open(host, KvmParameters.DEFAULT);
    }

    /// The same with other parameters of the module.
    public static Kvm open(HostEnvironment host, KvmParameters parameters) {
        return new DevKvm(host, parameters);
    }

    private DevKvm(HostEnvironment environment, KvmParameters moduleParameters) {
        host = new Host(environment);
        vms = new VmList(host.lockdep());
        host.enableVirtualization();
        mmuModule = mmuModule(host, moduleParameters);
        extensions = new Extensions(this::vmTypes, hasSelfSnoop(host), mmuModule.masks().usesEpt());
    }

    /// [LINUX vmx_hardware_setup, kvm_configure_mmu]
    private static MmuModule mmuModule(Host host, KvmParameters moduleParameters) {
        var lp = host.cpus().here().lp();
        int[] registers = new int[4];
        lp.cpuid(ADDRESS_SIZES, 0, registers);
        long ept = lp.rdmsr(Msr.IA32_VMX_EPT_VPID_CAP);
        var masks = new SpteMasks(registers[0] & 0xff, moduleParameters.mmioCaching(),
                MmioParameter.of(moduleParameters.mmioParameter()));
        if (moduleParameters.ept()) {
            masks.useEpt((ept & Ept.CAPABILITY_ACCESSED_DIRTY) != 0);
        }
        int largest = (ept & Ept.CAPABILITY_1G) != 0 ? 3 : (ept & Ept.CAPABILITY_2M) != 0 ? 2 : 1;
        var parameters = new MmuParameters(moduleParameters.nxHugePages(), true, largest,
                (ept & Ept.CAPABILITY_5_LEVELS) != 0 ? 5 : 4, 0,
                new NxRecoveryPace(moduleParameters.nxRecoveryRatio(), moduleParameters.nxRecoveryPeriodMs()));
        return new MmuModule(host.memory(), host.frames(), host.userMemory(), host.scheduler(), host.lockdep(), masks, parameters);
    }

    private static boolean hasSelfSnoop(Host host) {
        int[] registers = new int[4];
        host.cpus().here().lp().cpuid(1, 0, registers);
        return (registers[3] & SELF_SNOOP) != 0;
    }

    @Override public long checkExtension(KvmCap cap) {
        return extensions.of(cap);
    }

    @Override public KvmVm createVm(VmType type) {
        // Private memory of ordinary VMs takes the TDP MMU. [LINUX kvm_x86_vendor_init]
        Vm.require(type != VmType.SW_PROTECTED || mmuModule.masks().usesEpt(), Errno.EINVAL, "KVM was loaded with ept=0");
        var vm = switch (type) {
            case DEFAULT, SW_PROTECTED -> new VmxVm(host, extensions, mmuModule, type);
            case TDX -> new TdVm(host, extensions, mmuModule, tdxSystem());
        };
        vms.add(vm);
        return vm;
    }

    /// Asking brings the TDX module up, for nothing else tells whether it works.
    private long vmTypes() {
        long types = (1L << VmType.DEFAULT.number()) | (mmuModule.masks().usesEpt() ? 1L << VmType.SW_PROTECTED.number() : 0);
        try {
            tdxSystem();
            return types | (1L << VmType.TDX.number());
        } catch (KvmException unavailable) {
            return types;
        }
    }

    /// [LINUX tdx_hardware_setup]
    private TdxSystem tdxSystem() {
        if (tdx == null) {
            Vm.require(mmuModule.masks().usesEpt(), Errno.EINVAL, "TDX is not available: KVM was loaded with ept=0");
            if (!mmuModule.masks().mmioCaching() || !mmuModule.masks().accessedDirty()) {
                throw new KvmException(Errno.EINVAL, "TDX is not available: it needs MMIO caching and accessed and dirty flags in EPT");
            }
            // [LINUX tdx_enable]: a TD's shared memory has the type that its guest says, which may not be the host's.
            Vm.require(hasSelfSnoop(host), Errno.EINVAL, "TDX is not available: self-snoop is required (ENODEV)");
            try {
                tdx = new TdxSystem(host);
            } catch (TdxFailure | HostFault failure) {
                throw new KvmException(Errno.EINVAL, "TDX is not available: " + failure.getMessage());
            }
        }
        return tdx;
    }

    @Override public List<CpuidEntry> supportedCpuid() {
        return SupportedCpuid.of(host.cpus().here().lp(), mmuModule.masks().usesEpt());
    }

    @Override public List<Integer> msrIndexList() {
        return GuestMsrs.indexList();
    }

    @Override public UserMemory userMemory() {
        return host.userMemory();
    }

    @Override public void processorOnline(int index, boolean online) {
        host.processorOnline(index, online, this);
    }

    @Override public void requireRemovable(HostCpu cpu) {
        if (tdx != null) {
            tdx.requireRemovable(cpu);
        }
    }

    /// [LINUX kvm_offline_cpu]
    @Override public void offline(HostCpu cpu) {
        vms.atOffline().forEach(vm -> vm.cpuOffline(cpu));
        if (tdx != null) {
            tdx.cpuOffline(cpu);
        }
    }

    @Override public void online(HostCpu cpu) {
        if (tdx != null) {
            tdx.cpuOnline(cpu);
        }
    }

    @Override public void checkHostState() {
        host.cpus().checkHostState();
    }

    @Override public void lose(HostRegister register) {
        host.lostRegisters().add(register);
    }

    @Override public KvmStats stats() {
        return new Sum(vms.all());
    }

    private record Sum(List<Vm> vms) implements KvmStats {
        @Override public Map<String, Long> exits() {
            return merge(KvmStats::exits);
        }

        @Override public Map<String, Long> seamcalls() {
            return merge(KvmStats::seamcalls);
        }

        @Override public Map<String, Long> busySeamcalls() {
            return merge(KvmStats::busySeamcalls);
        }

        @Override public long pagesAdded() {
            return sum(KvmStats::pagesAdded);
        }

        @Override public long pagesPopulated() {
            return sum(KvmStats::pagesPopulated);
        }

        @Override public long pagesAugmented() {
            return sum(KvmStats::pagesAugmented);
        }

        @Override public long busyRetries() {
            return sum(KvmStats::busyRetries);
        }

        @Override public long pagesConverted() {
            return sum(KvmStats::pagesConverted);
        }

        @Override public long tdxPages() {
            return sum(KvmStats::tdxPages);
        }

        @Override public long leakedPages() {
            return sum(KvmStats::leakedPages);
        }

        private Map<String, Long> merge(Function<KvmStats, Map<String, Long>> part) {
            var result = new TreeMap<String, Long>();
            for (var vm : vms) {
                part.apply(vm.stats()).forEach((name, count) -> result.merge(name, count, Long::sum));
            }
            return result;
        }

        private long sum(ToLongFunction<KvmStats> part) {
            return vms.stream().mapToLong(vm -> part.applyAsLong(vm.stats())).sum();
        }
    }
}
