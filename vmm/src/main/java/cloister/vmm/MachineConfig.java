package cloister.vmm;

import cloister.devices.ByteSink;
import cloister.devices.ByteSource;
import cloister.kvm.KvmParameters;
import cloister.kvm.KvmPolicy;
import cloister.sim.ContendedRoundRobin;
import cloister.sim.RandomWalk;
import cloister.sim.RoundRobin;
import cloister.sim.Scheduler.IdlePace;
import cloister.sim.SchedulingStrategy;
import java.lang.foreign.MemorySegment;
import java.util.EnumMap;
import java.util.List;
import java.util.Map;
import java.util.function.LongFunction;
import java.util.stream.Collectors;
import java.util.stream.Stream;

/// Everything that decides what a machine is. Same values, same guest: same run, bit for bit.
///
/// A mutable description: set what differs from the defaults, then hand it to [Machine#Machine(MachineConfig)].
public final class MachineConfig {
    static final int MAX_CPUS = 64;
    /// The parameters that KVM can be loaded with, by the names that Linux gives them.
    public static final List<String> KVM_PARAMETERS = List.of("ept", "mmio_caching", "nx_huge_pages", "nx_huge_pages_recovery_ratio",
            "nx_huge_pages_recovery_period_ms");
    private static final int MAX_PACKAGES = 8;
    private static final String RANDOM = "random:";
    private static final int RANDOM_POINTS = 20;

    VmType vmType = VmType.TDX;
    MemorySegment kernel;
    String kernelName = "kernel";
    byte[] program;
    List<MemorySegment> initrd = List.of();
    String commandLine = "console=ttyS0";
    long memoryBytes = 512L << 20;
    int cpus = 1;
    int hostCpus;
    Map<KvmPolicy, String> policies = new EnumMap<>(KvmPolicy.class);
    boolean mmioCaching = true;
    boolean selfSnoop = true;
    boolean prefault;
    boolean ept = true;
    boolean nxHugePages;
    int nxRecoveryRatio = KvmParameters.NX_RECOVERY_RATIO;
    int nxRecoveryPeriodMs;
    int packages = 1;
    long seed;
    long startEpochSeconds = 1_767_225_600L; // 2026-01-01T00:00:00Z: a run must not depend on the day
    ByteSink console = octet -> { };
    GuestInput consoleInput = GuestInput.of(ByteSource.EMPTY, false);
    ExecChannel exec;
    ByteSink execErrors = octet -> { };
    GuestInput execInput = GuestInput.NOTHING;
    boolean interactive;
    IdlePace pace = IdlePace.SKIP;
    LongFunction<SchedulingStrategy> strategy = seed -> new RoundRobin();
    MachineObserver observer = MachineObserver.NONE;
    boolean timed;
    /// A trust domain's attribute SEPT_VE_DISABLE.
    boolean septVeDisable = true;
    /// Whether a trust domain's initial image is measured.
    boolean measured = true;

    /// A trust domain or an ordinary VM. Default: trust domain.
    public MachineConfig vmType(VmType value) {
        vmType = value;
        return this;
    }

    /// The bzImage. Required unless there is a [#program].
    ///
    /// @param name how messages call it, usually the path
    public MachineConfig kernel(byte[] image, String name) {
        return kernel(MemorySegment.ofArray(image), name);
    }

    /// The bzImage, for example a mapped file: its content is read when the machine is built.
    public MachineConfig kernel(MemorySegment image, String name) {
        kernel = image;
        kernelName = name;
        return this;
    }

    /// Checks what the beginning of a bzImage, 64 KiB or all of it, tells of the whole.
    ///
    /// @param name how messages call it
    /// @throws UserError when it is no beginning of one that could be booted
    public static void checkKernelStart(MemorySegment start, String name) {
        BzImage.checkStart(start, name);
    }

    /// A flat 64-bit program instead of a kernel, such as [TinyGuest]'s: loaded at 1 MiB and entered at its first byte, on
    /// an identity map of the first 4 GiB, without a stack.
    public MachineConfig program(byte[] image) {
        program = image;
        return this;
    }

    /// The initial RAM file system as the kernel shall see it; empty for none.
    public MachineConfig initrd(byte[] image) {
        return initrd(List.of(MemorySegment.ofArray(image)));
    }

    /// An initial RAM file system of several archives, each on a page of its own; the kernel unpacks one after the other. Their
    /// content is read when the machine is built.
    public MachineConfig initrd(List<MemorySegment> archives) {
        initrd = List.copyOf(archives);
        return this;
    }

    /// The kernel's command line. Default: `console=ttyS0`.
    public MachineConfig commandLine(String value) {
        commandLine = value;
        return this;
    }

    /// Guest memory in bytes, a multiple of 1 MiB. Default: 512 MiB.
    public MachineConfig memoryBytes(long value) {
        memoryBytes = value;
        return this;
    }

    /// Number of vCPUs, 1 to 64. Default: 1.
    public MachineConfig cpus(int value) {
        cpus = value;
        return this;
    }

    /// Number of logical processors of the platform, 1 to 64; vCPUs share them. 0, the default: as many as vCPUs, and as many in each
    /// package.
    public MachineConfig hostCpus(int value) {
        hostCpus = value;
        return this;
    }

    /// The module's parameter mmio_caching: whether KVM marks MMIO in its page tables. Without it there are no trust domains. Default:
    /// true.
    public MachineConfig mmioCaching(boolean value) {
        mmioCaching = value;
        return this;
    }

    /// Whether all memory is mapped before the guest starts, which then causes no exit at its first use of a page. Default: false.
    public MachineConfig prefault(boolean value) {
        prefault = value;
        return this;
    }

    /// The module's parameter ept: whether guest memory is mapped by EPT. Without it a guest's own tables are shadowed, and there are no
    /// trust domains. Default: true.
    public MachineConfig ept(boolean value) {
        ept = value;
        return this;
    }

    /// A parameter of the module, of [#KVM_PARAMETERS]. nx_huge_pages is 0, 1, off, force or auto, which is off, as the processors have no
    /// erratum.
    ///
    /// @throws UserError when there is no such parameter, or it cannot be that
    public MachineConfig kvmParameter(String name, String value) {
        switch (name) {
            case "nx_huge_pages_recovery_ratio" -> {
                nxRecoveryRatio = unsigned(name, value);
                return this;
            }
            case "nx_huge_pages_recovery_period_ms" -> {
                nxRecoveryPeriodMs = unsigned(name, value);
                return this;
            }
            default -> {
                return kvmSwitch(name, value);
            }
        }
    }

    private static int unsigned(String name, String value) {
        try {
            return Integer.parseUnsignedInt(value);
        } catch (NumberFormatException notOne) {
            throw UserError.usage("KVM's parameter " + name + " is a number from 0 to 4294967295, not '" + value + "'");
        }
    }

    private MachineConfig kvmSwitch(String name, String value) {
        if (name.equals("nx_huge_pages") && List.of("off", "auto", "force").contains(value)) {
            nxHugePages = value.equals("force");
            return this;
        }
        boolean on = List.of("1", "Y", "y").contains(value);
        if (!on && !List.of("0", "N", "n").contains(value)) {
            throw UserError.usage("KVM's parameter " + name + " is 0 or 1, not '" + value + "'");
        }
        return switch (name) {
            case "ept" -> ept(on);
            case "mmio_caching" -> mmioCaching(on);
            case "nx_huge_pages" -> {
                nxHugePages = on;
                yield this;
            }
            default -> throw UserError.usage("KVM has no parameter " + name + " here: choose of " + String.join(", ", KVM_PARAMETERS));
        };
    }

    /// What KVM is loaded with.
    KvmParameters kvmParameters() {
        return new KvmParameters(mmioCaching,
                policies.getOrDefault(KvmPolicy.MMIO_PARAMETER, KvmPolicy.MMIO_PARAMETER.choices().getFirst()), ept)
                .withNxHugePages(nxHugePages, nxRecoveryRatio, nxRecoveryPeriodMs);
    }

    /// Another design of KVM than upstream's. Default: upstream's.
    ///
    /// @param name the policy, as `cloister run --policy` names it
    /// @throws UserError when there is no such policy, or it knows no such choice
    public MachineConfig policy(String name, String choice) {
        var policy = KvmPolicy.of(name);
        if (policy == null) {
            throw UserError.usage("there is no policy '" + name + "': choose of " + Stream.of(KvmPolicy.values())
                    .map(KvmPolicy::policyName).collect(Collectors.joining(", ")));
        }
        String known = policy.choices().stream().filter(choice::equalsIgnoreCase).findFirst().orElseThrow(() -> UserError.usage(
                "policy " + policy.policyName() + " is one of " + String.join(", ", policy.choices()) + ", not '" + choice + "'"));
        policies.put(policy, known);
        return this;
    }

    int processors() {
        return hostCpus == 0 ? ((cpus + packages - 1) / packages) * packages : hostCpus;
    }

    /// Packages over which the platform's processors are spread, 1 to 8. Default: 1.
    public MachineConfig packages(int value) {
        packages = value;
        return this;
    }

    /// Whether the processors snoop their own caches (CPUID.1:EDX.SS). Without it there are no trust domains. Default: true.
    public MachineConfig selfSnoop(boolean value) {
        selfSnoop = value;
        return this;
    }

    /// The seed of every random number of the platform. Default: 0.
    public MachineConfig seed(long value) {
        seed = value;
        return this;
    }

    /// Where the bytes of the first serial port (ttyS0) go. Default: nowhere.
    public MachineConfig console(ByteSink value) {
        console = value;
        return this;
    }

    /// What is typed at the first serial port. When it has ended, Ctrl-D is typed, and a guest that then says nothing for days of its time
    /// has stalled. Default: nothing, without an end.
    public MachineConfig consoleInput(GuestInput value) {
        consoleInput = value;
        return this;
    }

    /// The second and third serial ports (ttyS1, ttyS2), over which [Initramfs#command] runs a command. Default: nobody is there.
    ///
    /// @param channel gets the command's standard output
    /// @param errors  gets its standard error
    /// @param input   is its standard input
    public MachineConfig exec(ExecChannel channel, ByteSink errors, GuestInput input) {
        exec = channel;
        execErrors = errors;
        execInput = input;
        return this;
    }

    /// Whether [Machine#inputArrived] may tell of input: an idle guest then waits instead of stalling. Default: no.
    public MachineConfig interactive(boolean value) {
        interactive = value;
        return this;
    }

    /// How time passes while every vCPU waits. Default: skipped.
    public MachineConfig pace(IdlePace value) {
        pace = value;
        return this;
    }

    /// In which order host threads run. `round-robin`: each for a slice of its guest's instructions, or until it waits; in the middle of a
    /// SEAMCALL it is not interrupted. `random` and `random:N`: at one point in N (20) a thread drawn by the seed goes on, locks of the TDX
    /// module held or not. `contended`: before a thread tries a lock of the TDX module, one that was created earlier
    /// and uses it takes it, so that what can be busy is.
    /// Default: `round-robin`.
    ///
    /// @throws UserError when there is no such order
    public MachineConfig schedule(String name) {
        strategy = switch (name) {
            case "round-robin" -> seed -> new RoundRobin();
            case "contended" -> seed -> new ContendedRoundRobin();
            case "random" -> seed -> new RandomWalk(seed, RANDOM_POINTS);
            default -> random(name);
        };
        return this;
    }

    private static LongFunction<SchedulingStrategy> random(String name) {
        try {
            int points = name.startsWith(RANDOM) ? Integer.parseInt(name.substring(RANDOM.length())) : 0;
            if (points > 0) {
                return seed -> new RandomWalk(seed, points);
            }
        } catch (NumberFormatException notOne) {
            // said below
        }
        throw UserError.usage("there is no schedule " + name + ": choose round-robin, random, random:N with N of 1 or more, or contended");
    }

    /// Who hears what the machine does. Default: nobody.
    public MachineConfig observer(MachineObserver value) {
        observer = value;
        return this;
    }

    /// Whether [Machine#stats] tells the wall time of exits and calls: one reading of this machine's clock at each. Default: no.
    public MachineConfig timed(boolean value) {
        timed = value;
        return this;
    }

    /// Checks what needs neither a kernel nor an initrd.
    ///
    /// @throws UserError when no machine has so many processors or so much memory, its type of VM does not know a policy, or memory cannot
    ///         be populated
    public void checkSizes() {
        if (cpus < 1 || cpus > MAX_CPUS) {
            throw UserError.usage("cannot make " + cpus + " CPUs: choose 1 to " + MAX_CPUS);
        }
        if (packages < 1 || packages > MAX_PACKAGES) {
            throw UserError.usage("cannot make " + packages + " packages: choose 1 to " + MAX_PACKAGES);
        }
        if (hostCpus < 0 || processors() > MAX_CPUS) {
            throw UserError.usage("cannot make a platform of " + hostCpus + " processors: choose 1 to " + MAX_CPUS);
        }
        if (processors() % packages != 0) {
            throw UserError.usage(processors() + " processors cannot be spread evenly over " + packages
                    + " packages: choose a multiple with --host-cpus");
        }
        if (memoryBytes <= 0 || memoryBytes % GuestLayout.MEBIBYTE != 0) {
            throw UserError.usage("memory of " + memoryBytes + " bytes is no whole number of MiB: choose 1M or more");
        }
        if (memoryBytes > 1L << 38) {
            throw UserError.usage("memory of " + (memoryBytes >> 30) + " GiB is too much: choose at most 256 GiB");
        }
        if (prefault && !ept) {
            throw UserError.usage("memory cannot be populated without EPT: leave out --prefault or --kvm-param ept=0");
        }
        checkPolicies(vmType == VmType.TDX ? cloister.spec.kvm.VmType.TDX : cloister.spec.kvm.VmType.DEFAULT);
    }

    private void checkPolicies(cloister.spec.kvm.VmType type) {
        policies.forEach((policy, choice) -> {
            if (!policy.isFor(type, choice)) {
                throw UserError.usage("policy " + policy.policyName() + "=" + choice + " is not for "
                        + (vmType == VmType.TDX ? "trust domains" : "ordinary VMs") + ": choose another, or another --vm-type");
            }
        });
    }

    void check() {
        checkSizes();
        if (kernel == null && program == null) {
            throw UserError.usage("no kernel: name a bzImage");
        }
    }
}
