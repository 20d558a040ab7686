package cloister.kvm.x86;

import cloister.cpu.HostFault;
import cloister.kvm.HostEnvironment;
import cloister.kvm.Kvm;
import cloister.kvm.KvmException;
import cloister.kvm.KvmStats;
import cloister.kvm.KvmVm;
import cloister.kvm.UserMemory;
import cloister.kvm.host.Host;
import cloister.kvm.td.TdxFailure;
import cloister.kvm.td.TdxSystem;
import cloister.spec.kvm.CpuidEntry;
import cloister.spec.kvm.Errno;
import cloister.spec.kvm.KvmAbi;
import cloister.spec.kvm.KvmCap;
import cloister.spec.kvm.VmType;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.function.Function;
import java.util.function.ToLongFunction;

/// The loaded module: /dev/kvm.
public final class KvmModule implements Kvm {
    private final Host host;
    private TdxSystem tdx;
    private final List<Vm> vms = new ArrayList<>();

    /// Loads KVM: virtualisation is enabled on every processor.
    public KvmModule(HostEnvironment environment) {
        host = new Host(environment);
        host.enableVirtualization();
    }

    static long extension(KvmCap cap) {
        return switch (cap) {
            case MAX_VCPUS, MAX_VCPU_ID -> Vm.MAX_VCPUS;
            case SPLIT_IRQCHIP, USER_MEMORY2, MEMORY_FAULT_INFO, PRE_FAULT_MEMORY, X86_APIC_BUS_CYCLES_NS -> 1;
            case X2APIC_API -> 3;
            case EXIT_HYPERCALL -> 1L << KvmAbi.HC_MAP_GPA_RANGE;
            case VM_TYPES -> (1L << VmType.DEFAULT.number()) | (1L << VmType.TDX.number());
            case MEMORY_ATTRIBUTES, GUEST_MEMFD, X86_USER_SPACE_MSR -> 0;
        };
    }

    @Override public long checkExtension(KvmCap cap) {
        return extension(cap);
    }

    @Override public KvmVm createVm(VmType type) {
        var vm = switch (type) {
            case DEFAULT -> new VmxVm(host);
            case TDX -> new TdVm(host, tdxSystem());
        };
        vms.add(vm);
        return vm;
    }

    private TdxSystem tdxSystem() {
        if (tdx == null) {
            try {
                tdx = new TdxSystem(host);
            } catch (TdxFailure | HostFault failure) {
                throw new KvmException(Errno.EINVAL, "TDX is not available: " + failure.getMessage());
            }
        }
        return tdx;
    }

    @Override public List<CpuidEntry> supportedCpuid() {
        return SupportedCpuid.of(host.processors().getFirst());
    }

    @Override public List<Integer> msrIndexList() {
        return GuestMsrs.indexList();
    }

    @Override public UserMemory userMemory() {
        return host.userMemory();
    }

    @Override public KvmStats stats() {
        return new Sum(vms);
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

        @Override public long pagesAugmented() {
            return sum(KvmStats::pagesAugmented);
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
