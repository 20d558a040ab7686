package cloister.cli;

import cloister.cli.guest.FetchFailure;
import cloister.cli.guest.GuestCache;
import cloister.vmm.Initramfs;
import cloister.vmm.Machine;
import cloister.vmm.MachineConfig;
import cloister.vmm.Outcome;
import cloister.vmm.UserError;
import cloister.vmm.VmType;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Callable;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Option;
import picocli.CommandLine.ParentCommand;

/// `cloister run`: boots a guest.
@Command(name = "run", mixinStandardHelpOptions = true, sortOptions = false,
        description = {"Boot a guest, by default Debian's cloud kernel with a busybox shell as a trust domain.",
            "Keys: Ctrl-A x leaves, Ctrl-A d writes a dump (see --dump-file), Ctrl-A Ctrl-A sends a Ctrl-A, Ctrl-A ? shows the keys.",
            "Input that is no terminal is typed at the console, then Ctrl-D; with --exec it is the command's."},
        exitCodeListHeading = "%nExit codes:%n",
        exitCodeList = {"0:the guest powered off (with --exec: the command's code)", "64:wrong option", "65:broken input file",
            "69:JDK, network or mirror missing", "70:internal error", "74:output could not be written", "80:guest panic",
            "81:triple fault", "82:guest waits for ever", "83:guest reset", "84:feature missing in Cloister",
            "85:private pages not reclaimed", "86:--exec without result", "87:the guest did what it does not survive",
            "88:host threads are in each other's way for ever", "124:time-out",
            "130:left with Ctrl-A x", "141:nobody reads the output"})
sealed class RunCommand implements Callable<Integer> permits ProfileCommand {
    /// What every run gets, so that a panic ends the run and the console is ours. The crypto self-tests cost a billion
    /// instructions and prove nothing here.
    /// `r`: with RTS/CTS flow control, so that piped input of any length arrives whole.
    private static final String COMMAND_LINE = "console=ttyS0,115200n8r panic=-1 cryptomgr.notests";

    /// A run that shall stop does so within moments, unless its output finds no taker.
    private static final int SECONDS_TO_STOP = 2;

    @ParentCommand
    private Main main;

    @Option(names = {"--kernel", "-kernel"}, paramLabel = "FILE", description = "A Linux bzImage instead of the fetched one.")
    private Path kernel;

    @Option(names = {"--initrd", "-initrd"}, paramLabel = "FILE", description = "An initial RAM file system instead of busybox's.")
    private Path initrd;

    @Option(names = {"--append", "-append"}, paramLabel = "TEXT", description = "Added to the kernel's command line.")
    private String append = "";

    @Option(names = {"--memory", "-m"}, paramLabel = "SIZE", converter = MemorySize.class, defaultValue = "512M",
            description = "Guest memory, such as 512M or 2.5G. Default: ${DEFAULT-VALUE}.")
    private long memory;

    @Option(names = {"--cpus", "-smp"}, paramLabel = "N", defaultValue = "1", description = "vCPUs. Default: ${DEFAULT-VALUE}.")
    private int cpus;

    @Option(names = "--host-cpus", paramLabel = "N", defaultValue = "0",
            description = "Logical processors of the platform, which the vCPUs share. Default: one for each vCPU.")
    private int hostCpus;

    @Option(names = "--policy", paramLabel = "NAME=VALUE",
            description = "Another design of KVM than upstream's: zap=kick-and-exclude|retry-forever|retry-n, td-vcpus=processors|module, "
                    + "pre-fault=current-mmu|map-memory-v1, mmio-value=per-vm|global, "
                    + "mmio-parameter=snapshot|vendor-sets|cleared-for-good, memory-type=upstream-7.2|mtrr|proposed-2023.")
    private Map<String, String> policies = Map.of();

    @Option(names = "--schedule", paramLabel = "ORDER", defaultValue = "round-robin",
            description = "Which host thread runs when. round-robin: each for a slice. random, random:N: one switch point in N (20) is a "
                    + "draw by --seed, SEAMCALLs are interrupted where they hold locks. contended: before a thread tries a lock of "
                    + "the TDX module another one takes it, so that SEAMCALLs meet BUSY (see --stats). Default: ${DEFAULT-VALUE}.")
    private String schedule;

    @Option(names = "--packages", paramLabel = "N", defaultValue = "1",
            description = "Packages (sockets) of the platform, 1 to 8. Default: ${DEFAULT-VALUE}.")
    private int packages;

    @Option(names = "--prefault", description = "Populate all of the guest's memory before it starts; --stats says how much that was.")
    private boolean prefault;

    @Option(names = "--kvm-param", paramLabel = "NAME=VALUE",
            description = "A parameter that KVM is loaded with: ept=0 shadows the guest's own page tables; there are no trust domains "
                    + "then. mmio_caching=0 as --no-mmio-caching. nx_huge_pages=1 makes large pages not executable; "
                    + "nx_huge_pages_recovery_ratio and nx_huge_pages_recovery_period_ms say how fast small ones are given up.")
    private Map<String, String> kvmParameters = Map.of();

    @Option(names = "--no-mmio-caching",
            description = "Load KVM with mmio_caching=0: MMIO has no entries in its page tables. There are no trust domains then.")
    private boolean noMmioCaching;

    @Option(names = "--no-self-snoop",
            description = "A platform whose processors do not snoop their own caches, where a page must have one memory type everywhere. "
                    + "KVM has no trust domains there.")
    private boolean noSelfSnoop;

    @Option(names = "--vm-type", paramLabel = "TYPE", defaultValue = "tdx",
            description = "tdx (a trust domain) or default (an ordinary VM). Default: ${DEFAULT-VALUE}.")
    private VmType vmType;

    @Option(names = "--seed", paramLabel = "N", defaultValue = "0",
            description = "Seed of every random number; same seed, same run. Default: ${DEFAULT-VALUE}.")
    private long seed;

    @Option(names = "--exec", paramLabel = "COMMAND",
            description = "Run one shell command in the guest: our standard input (no terminal) is its, its output and errors are ours, "
                    + "its exit code is returned. With --initrd its shell runs it.")
    private String exec;

    @Option(names = "--timeout", paramLabel = "SECONDS", description = "End the run after so much wall time.")
    private Integer timeout;

    @Mixin
    private ObserveOptions observe;

    @Option(names = "--offline", description = "Fetch nothing: the guest has to be in the cache.")
    private boolean offline;

    /// With `--exec`: the guest's console on standard error.
    private boolean verbose;

    @Override public Integer call() throws FetchFailure {
        verbose = main.verbose();
        try {
            checkValues();
            checkFile(kernel, "--kernel");
            checkFile(initrd, "--initrd");
            return run();
        } catch (UserError e) {
            System.err.println("cloister: " + e.getMessage() + ".");
            return e.exitCode();
        }
    }

    /// What looks at the run.
    final ObserveOptions observe() {
        return observe;
    }

    /// Everything but files that can be known to be wrong before a guest is fetched.
    ///
    /// @throws UserError when an option is wrong
    final void checkValues() {
        withPolicies(sized()).checkSizes();
        if (timeout != null && timeout < 1) {
            throw UserError.usage("--timeout " + timeout + " is no time: choose 1 second or more");
        }
        observe.check();
    }

    private static void checkFile(Path file, String what) {
        if (file != null && !Files.exists(file)) {
            throw UserError.badInput(what + ": there is no file " + file + ": check the path");
        }
    }

    private int run() throws FetchFailure {
        // Before a terminal becomes the guest's: until the guest runs, Ctrl-C ends the program.
        var config = config();
        var tracer = observe.tracer();
        int code;
        try (tracer; var console = new GuestConsole(exec != null, verbose);
                var machine = new Machine(observe.applyTo(console.describe(config), tracer))) {
            code = run(machine, console);
        }
        tracer.sayWhenEmpty();
        return tracer.failed() || observe.unwritten() ? ExitCode.OUTPUT.code() : code;
    }

    private int run(Machine machine, GuestConsole console) {
        observe.before(machine);
        var outcome = runInTime(machine, console);
        console.close();
        observe.afterRun(machine);
        boolean torn = outcome instanceof Outcome.PowerOff || outcome instanceof Outcome.Reset;
        long leaked = torn ? machine.tearDown() : 0;
        observe.atEnd(machine.stats(), torn);
        return new RunReport(console, exec != null, exec != null && !verbose, timeout == null ? 0 : timeout).exitCode(outcome, leaked);
    }

    private Outcome runInTime(Machine machine, GuestConsole console) {
        var done = new CountDownLatch(1);
        if (timeout != null) {
            Thread.ofPlatform().daemon().name("timeout").start(() -> stopInTime(machine, console, done));
        }
        try {
            console.attach(machine, () -> dumpSoon(machine));
            return machine.run();
        } finally {
            done.countDown();
        }
    }

    private void stopInTime(Machine machine, GuestConsole console, CountDownLatch done) {
        try {
            if (!done.await(timeout, TimeUnit.SECONDS)) {
                machine.requestStop();
                if (!done.await(SECONDS_TO_STOP, TimeUnit.SECONDS)) {
                    console.abandon(); // the guest waits for somebody who does not read
                }
            }
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
        }
    }

    private void dumpSoon(Machine machine) {
        machine.inspectSoon(module -> observe.dump(new Dump(module, machine.memoryTypes())));
    }

    private MachineConfig config() throws FetchFailure {
        GuestCache.Guest guest = null;
        if (kernel == null || (exec != null && initrd == null)) {
            guest = GuestCache.ofUser().guest(offline, new Progress());
        }
        var file = kernel != null ? kernel : guest.kernel();
        var image = InputFile.map(file, "--kernel", Math.min(memory, InputFile.LONGEST_KERNEL),
                start -> MachineConfig.checkKernelStart(start, file.toString()));
        observe.kernel(image);
        List<MemorySegment> ramDisk = List.of();
        if (initrd != null) {
            var archive = InputFile.mapInitrd(initrd, exec != null, memory);
            ramDisk = exec == null ? List.of(archive) : List.of(MemorySegment.ofArray(Initramfs.commandFor(exec)), archive);
        } else if (guest != null) {
            var packed = new Initramfs(InputFile.map(guest.busybox(), "busybox", memory, start -> { })
                    .toArray(ValueLayout.JAVA_BYTE));
            ramDisk = List.of(MemorySegment.ofArray((exec == null ? packed : packed.command(exec)).pack()));
        }
        String line = COMMAND_LINE + (append.isBlank() ? "" : " " + append)
                + (exec != null && initrd != null ? " rdinit=" + Initramfs.COMMAND_INIT : "");
        return withPolicies(sized()).kernel(image, file.toString()).initrd(ramDisk).commandLine(line)
                .seed(seed);
    }

    private MachineConfig sized() {
        return new MachineConfig().vmType(vmType).memoryBytes(memory).cpus(cpus).hostCpus(hostCpus).packages(packages)
                .mmioCaching(!noMmioCaching).selfSnoop(!noSelfSnoop).prefault(prefault).schedule(schedule);
    }

    private MachineConfig withPolicies(MachineConfig config) {
        policies.forEach(config::policy);
        kvmParameters.forEach(config::kvmParameter);
        return config;
    }
}
